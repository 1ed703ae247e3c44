"""The sources of the originals: ImageNet's tar files, CIFAR-10, folders, TFDS."""
