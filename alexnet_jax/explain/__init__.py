"""Pictures of a net from the inside, and the functions that compute them (`attribution`)."""
