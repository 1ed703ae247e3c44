"""A trained net on the user's own pictures: classes, features, nearest pictures, contact sheets."""
