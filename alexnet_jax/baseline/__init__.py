"""Image classification as it was done in 2011: fixed features and a linear SVM."""
