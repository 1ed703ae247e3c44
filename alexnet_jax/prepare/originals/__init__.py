"""Where the originals come from: ImageNet's tar files, CIFAR-10, folders, TFDS."""
