"""Every setting, with its unit. Other configs import this one and change a few lines.

Command:   python -m alexnet_jax.main --config=configs/base.py --workdir=runs/digits
Trains:    a two-tower AlexNet of a quarter of the width on 64-pixel crops of scikit-learn's 1,797
           handwritten digits, enlarged from 8 to 72 pixels and embedded: nothing is downloaded.
Hardware:  two CPU cores.
Expected:  see README.md, "Results"; one or two minutes of training on busy cores.

Override any key on the command line: --config.optim.learning_rate=0.02
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Returns every setting at its default."""
    config = ConfigDict()
    config.seed = 0  # decides all that is random: initial weights, order, crops, dropout
    config.init_from = ""  # checkpoint whose net, parameters and input are taken; empty = random
    config.data = data_settings()
    config.model = model_settings()
    config.optim = optim_settings()
    config.train = train_settings()
    config.parallel = parallel_settings()
    config.eval = eval_settings()
    config.checkpoint = checkpoint_settings()
    return config


def data_settings() -> ConfigDict:
    """Returns the settings of the images: their source, size, batch and input scale."""
    data = ConfigDict()
    data.name = "digits"  # digits, synthetic, folder, or any TFDS image-classification data set
    data.dir = ""  # the store that `prepare` wrote; empty = data/<name>
    data.image_size = 72  # pixels, side of the stored image
    data.crop_size = 64  # pixels, side of the net's input
    data.batch_size = 32  # images, over all devices
    data.val_fraction = 0.1  # of the training set, held out if the data have no validation split
    data.on_bad_record = "fail"  # a corrupt image: fail; skip = train without it (evaluation fails)
    data.device_megabytes = 512  # a split of raw images up to this size is held on the device
    data.synthetic_images = 1024  # images in a split of the synthetic data set
    data.synthetic_classes = 10  # classes of the synthetic data set
    data.input_mean = config_dict.placeholder(tuple)  # RGB, 0–255; unset = the mean image
    data.input_scale = (1.0, 1.0, 1.0)  # RGB; net input = (pixel − mean) × scale
    data.augment = augment_settings()
    return data


def augment_settings() -> ConfigDict:
    """Returns the settings of the random changes to an image in training."""
    augment = ConfigDict()
    augment.crop = True  # random crops in training; False = the centre
    augment.flip = False  # mirror images with probability 1/2; off: a mirrored digit is no digit
    augment.colour = "none"  # noise along the colour components: none, paper, code
    augment.colour_scale = 0.1  # standard deviation of the noise's random factors α (paper §4.1)
    augment.colour_listed = ()  # ((epoch, colour_scale), …): the scale from that epoch on
    return augment


def model_settings() -> ConfigDict:
    """Returns the settings of the net, most of them changes to a published one."""
    model = ConfigDict()
    model.name = "alexnet"  # see alexnet_jax/nets/zoo.py
    model.width = 0.25  # multiplies the units of every layer but the last
    model.num_classes = config_dict.placeholder(int)  # classes; unset = those of the data
    # Unset = as the published net has it:
    model.towers = config_dict.placeholder(int)  # columns that the kernels are divided into
    model.activation = config_dict.placeholder(str)  # relu, tanh
    model.lrn = config_dict.placeholder(bool)  # False leaves out all response normalisation
    model.pool_size = config_dict.placeholder(int)  # pixels, side of the pooling window
    model.dropout = config_dict.placeholder(float)  # probability of dropping a unit; 0 = none
    model.exchange = config_dict.placeholder(tuple)  # layers before which the towers exchange
    model.without = ()  # names of layers to leave out
    # ((layer, std, bias), …): initial weights and biases of these layers, for the published size of
    # the net. At another width, crop or number of towers, each std except conv1's is multiplied by
    # √(published fan-in ÷ fan-in), like the net's own stds.
    model.initial = ()
    return model


def optim_settings() -> ConfigDict:
    """Returns the settings of the update rule, and of the learning rate over time and by layer."""
    optim = ConfigDict()
    optim.name = "paper"  # paper (the rate is inside the velocity), sgd (outside), lars
    # Rate, momentum and decay are from paper §5, twice the rate for biases from the released code.
    optim.learning_rate = 0.01  # of the weights at the start
    optim.bias_multiplier = 2.0  # a bias's first rate, as a multiple of its layer's weights'
    optim.bias_follows = True  # biases follow the schedule; False = they keep their first rate
    optim.momentum = 0.9  # factor on the velocity of the step before
    optim.weight_decay = 0.0005  # for layers that do not state their own; biases have none
    optim.trust_coefficient = 0.001  # lars: multiplies a kernel's rate, with ‖kernel‖ ÷ ‖gradient‖
    optim.warmup_epochs = 0.0  # epochs in which the rate rises linearly up to its schedule
    optim.schedule = "plateau"  # plateau, listed, dexp, constant, linear, cosine (to 0 at the end)
    optim.plateau_factor = 0.1  # plateau: multiplies the rate …
    optim.plateau_patience = 5  # evaluations without a lower validation error, then it drops …
    optim.plateau_drops = 3  # at most this many times
    optim.listed = ()  # listed: ((epoch, rate), …): the rate from that epoch on
    optim.listed_layers = ()  # any schedule: ((layer, epoch, rate), …): this layer's weights' rate
    optim.layer_factors = ()  # ((layer, factor), …): multiplies this layer's rates; 0 freezes it
    optim.dexp_target = 250.0  # dexp: first rate ÷ last rate …
    optim.dexp_steps = 4  # over this many equal parts of training
    return optim


def train_settings() -> ConfigDict:
    """Returns the settings of the loop: its length, its precision, its loss and its log."""
    train = ConfigDict()
    train.epochs = 30.0  # passes over the training set
    train.steps = 0  # batches; a positive value wins over epochs
    train.accumulate_steps = 1  # parts of a batch, one after another, if memory is short
    train.compute_dtype = "float32"  # of the net in training; bfloat16 gains on GPUs, not on CPUs
    train.label_smoothing = 0.0  # probability that targets give to all classes in equal parts
    train.ema_decay = 0.0  # decay per step of the evaluated moving average of the params; 0 = none
    train.log_every_steps = 10  # steps between two training lines in metrics.jsonl
    train.stop_at_train_error = 0.0  # fraction; ends at this top-1 training error; 0 = never
    return train


def parallel_settings() -> ConfigDict:
    """Returns the settings of the devices that a run is divided over."""
    parallel = ConfigDict()
    parallel.data = 1  # devices that the batch is divided over
    parallel.tower = 1  # devices that the towers are divided over
    parallel.scheme = "plain"  # plain; hybrid = dense layers split their units, not the batch
    return parallel


def eval_settings() -> ConfigDict:
    """Returns the settings of validations and of --mode=eval."""
    evaluation = ConfigDict()
    evaluation.views = 1  # 1 = centre; 10 = corners and centre, mirrored too
    evaluation.every_epochs = 1  # epochs between two validations while training
    evaluation.split = ""  # for --mode=eval: test or val; empty = test where it has labels
    evaluation.batch_size = 128  # images
    return evaluation


def checkpoint_settings() -> ConfigDict:
    """Returns the settings of saving: how often, how many, and on a full disk."""
    checkpoint = ConfigDict()
    checkpoint.every_steps = 0  # steps between two checkpoints; 0 = after every validation
    checkpoint.keep = 2  # newest checkpoints kept; the best one is kept, too
    checkpoint.on_full_disk = "stop"  # stop with an error; continue = train on, save when it fits
    return checkpoint
