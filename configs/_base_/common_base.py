"""Everything that is not the network: output, data, solver, evaluation. Every key, its default and its meaning.

Keys keep the names and defaults of GDR-Net's and SO-Pose's files. Keys under "accepted, without effect" stand here so
that such files load; setting one prints a warning.
"""

OUTPUT_ROOT = "output"  # accepted, without effect: OUTPUT_DIR says it all
OUTPUT_DIR = "output"  # checkpoints, metrics.json, TensorBoard, csv, tables and reports of a run
EXP_NAME = ""  # name in the results csv; "" takes the configuration's file name
DEBUG = False  # accepted, without effect: DATALOADER.NUM_WORKERS=0 keeps all in one process
SEED = -1  # random seed of data, weights and augmentation; -1 draws one and logs it
CPU_THREADS = 0  # threads of the network on a CPU; 0: the cores that DATALOADER.NUM_WORKERS leaves
CUDNN_BENCHMARK = True  # let cuDNN choose its fastest convolutions
IM_BACKEND = "cv2"  # accepted, without effect: OpenCV reads every image
VIS_PERIOD = 0  # iterations between pictures of P, Q, masks and poses in TensorBoard; 0: none

INPUT = dict(  # what the network sees, and how training images are changed
    FORMAT="BGR",  # channel order the network sees: BGR or RGB
    WITH_DEPTH=False,  # accepted, without effect: the method is monocular
    AUG_DEPTH=False,  # accepted, without effect: the method is monocular
    # accepted, without effect: whole-image resizing of the ancestor's detector framework
    MIN_SIZE_TRAIN=(480,),
    MAX_SIZE_TRAIN=640,
    MIN_SIZE_TRAIN_SAMPLING="choice",
    MIN_SIZE_TEST=480,
    MAX_SIZE_TEST=640,
    RANDOM_FLIP="none",
    # colour augmentation
    COLOR_AUG_PROB=0.0,  # share of training ROIs that are augmented
    # code: COLOR_AUG_CODE says the operations; AAE: those of Augmented Autoencoders; ROI10D: those of ROI-10D
    COLOR_AUG_TYPE="ROI10D",
    COLOR_AUG_CODE="",  # text of imgaug-like calls, parsed, never evaluated
    COLOR_AUG_SYN_ONLY=False,  # augment rendered images only
    # background
    BG_TYPE="VOC_table",  # accepted, without effect: every image below BG_IMGS_ROOT is used
    BG_IMGS_ROOT="",  # folder of background photographs; "" draws procedural ones
    BG_LEFT_OUT=(),  # shell patterns of photographs in it that train nothing, such as "*9.jpg"
    NUM_BG_IMGS=10000,  # at most so many background photographs
    CHANGE_BG_PROB=0.5,  # share of real training images whose background is replaced
    BG_KEEP_ASPECT_RATIO=True,  # crop backgrounds instead of stretching them
    TRUNCATE_FG=False,  # cut away one side of the object in most background-replaced images
    # dynamic zoom-in
    DZI_TYPE="uniform",  # uniform, roi10d, truncnorm or none
    DZI_PAD_SCALE=1.0,  # side of the crop in longer sides of the box
    DZI_SCALE_RATIO=0.25,  # the crop's size varies by this share
    DZI_SHIFT_RATIO=0.25,  # the crop's centre varies by this share of the box
    SMOOTH_XYZ=False,  # accepted, without effect: maps are cast at the crop's own positions
    XYZ_SOURCE="online",  # P and Q of training: online (cast for each crop) or files (folders xyz_crop and Q0)
)

DATASETS = dict(  # data sets, their objects, and the boxes to test in
    ROOT="datasets/BOP_DATASETS",  # folder of the BOP data sets (lm, lmo, ycbv, your own)
    OBJS=(),  # names of the objects to train and test; empty for all of the data set
    TRAIN=(),  # names (lmo_train, lmo_pbr_train, toy_train, lmo_cad) or "path/to/bop/folder:split"
    TRAIN2=(),  # a second training source
    TRAIN2_RATIO=0.0,  # share of samples drawn from it
    TEST=(),  # names to evaluate on
    DET_FILES_TEST=(),  # a detection json for each entry of TEST
    DET_TOPK_PER_OBJ=1,  # keep so many detections of an object in an image
    DET_TOPK_PER_IM=30,  # keep so many detections of an image
    TRAIN_ON_TEST_IMAGES=False,  # test splits are refused in TRAIN, TRAIN2 and CAD.POSES_FROM unless this is True
    DET_THR=0.0,  # drop detections with a lower score
    SYM_OBJS=("bowl", "cup", "eggbox", "glue"),  # names of the objects scored by ADD-S
    INIT_POSE_FILES_TEST=(),  # a BOP csv for each entry of TEST, whose poses give the boxes of TEST_BBOX_TYPE csv
    INIT_POSE_TOPK_PER_OBJ=1,  # keep so many of its poses of an object in an image
    INIT_POSE_TOPK_PER_IM=30,  # keep so many of its poses of an image
    INIT_POSE_THR=0.0,  # drop its poses with a lower score
    # accepted, without effect: proposals of the ancestor's detector framework
    PROPOSAL_FILES_TRAIN=(),
    PRECOMPUTED_PROPOSAL_TOPK_TRAIN=2000,
    PROPOSAL_FILES_TEST=(),
    PRECOMPUTED_PROPOSAL_TOPK_TEST=1000,
)

# training sources named <folder>_cad or "path:cad": ROIs drawn on the fly from the models
# What looks of objects, light and camera are drawn from is wider than life: photographs then are one case of many.
CAD = dict(
    EPOCH_LENGTH=20000,  # samples called an epoch
    # A rendered window is used so often, each time with another crop, background, cut, camera and colours and with
    # exact maps of its own; 1: every sample is rendered. Uses of a window are about POOL samples apart
    REUSE=1,
    POOL=256,  # windows that are kept, a multiple of 8; about 0.4 MB each at 128 pixels
    DEVICE="",  # "": rendered by the loader's processes; cuda, cuda:1: whole batches, on that GPU
    K=(),  # fx, fy, cx, cy of the camera, pixels; empty for the data set's camera.json
    IMAGE_SIZE=(),  # width, height, pixels; goes with K
    Z_RANGE=(0.5, 1.3),  # distance of the object along the optical axis, metres
    CENTER_RANGE=(0.1, 0.9),  # where the object's middle may project, shares of the image's width and height
    # uniform; upper: seen from above, the object's z axis pointing up; stable: lying on a table as it falls
    ROTATIONS="uniform",
    ELEVATION=(0.0, 90.0),  # of the camera above object or table, degrees, for upper and stable
    TILT=45.0,  # the camera's roll is within +- this, degrees, for upper and stable
    # An annotated split, such as lmo_train_pbr, whose distances, places in the image, elevations and rolls replace
    # Z_RANGE, CENTER_RANGE, ELEVATION and TILT; its images are not read
    POSES_FROM="",
    MAX_OCCLUDERS=3,  # 0 to so many other models of the folder stand around the object
    OCCLUDER_SPACING=(0.5, 1.2),  # of floating ones: distance of the centres in sums of the bounding radii
    STANDING_PROB=0.0,  # share of occluders that stand beside the object on its table
    GAP=(0.0, 0.05),  # distance of those that stand, outline to outline, metres; 0 touches
    GROUND_PROB=0.6,  # share of scenes with a textured plane: the table, or with uniform rotations one behind
    GROUND_TILE=(0.2, 1.0),  # metres that its texture covers before it repeats
    GROUND_PHOTO_PROB=0.5,  # share of its textures cut from INPUT.BG_IMGS_ROOT; the others are procedural
    MIN_VISIB=0.3,  # draw a scene again where less of the object is visible
    HIDE_PROB=0.0,  # share of crops with one to three shapes or bars before the object, flat or cut from photographs
    TRUNCATE_PROB=0.2,  # share of objects cut where TRUNCATE_FG is on; occluders stand there already
    LAMPS=(1, 3),  # number of lamps
    LAMP_SIZE=(0.0, 0.2),  # radius of a lamp per distance; 0 casts a hard shadow
    LAMP_TINT=0.15,  # colour of a lamp: each channel within 1 +- this
    AMBIENT=(0.05, 0.6),  # light from everywhere; 1 shows the colours themselves
    AMBIENT_SLOPE=1.0,  # it comes more from one side: a normal along or against that gets up to 1 +- this of it
    SHADOWS=True,  # the lamps cast shadows
    AMBIENT_OCCLUSION=True,  # what stands around takes ambient light away
    SHADOW_STRIDE=2,  # pixels between the places that cast shadow rays; 1: every pixel
    SHADOW_RAYS=1,  # from a place to each lamp
    SKY_STRIDE=4,  # pixels between the places that cast rays for ambient occlusion
    SKY_RAYS=4,  # from such a place
    SPECULAR=(0.0, 0.2),  # reflectance of the objects' highlights, seen straight on; 0.04 is plastic, paint, glass
    ROUGHNESS=(0.1, 0.9),  # of their surfaces: 0 a mirror, 1 chalk
    HUE=20.0,  # the hue of an object's colours is turned by up to +- this, degrees
    SATURATION=0.5,  # their saturation is scaled within 1 +- this
    BRIGHTNESS=0.6,  # their brightness is scaled within 1 +- this
    # Stains: the logarithm of an object's colour varies smoothly over it, by a standard deviation of up to this. Where
    # surfaces differ from their models (paint, dirt, holes that a scan has closed); up to 2
    STAINS=1.5,
    BLUR=(0.2, 1.2),  # softness of lens and sensor: Gaussian sigma, pixels of the camera
    GAIN=0.25,  # exposure within 1 +- this
    TINT=0.06,  # white balance of each channel within 1 +- this
    GAMMA=0.3,  # exponent of the response within 1 +- this
    NOISE=(0.0, 6.0),  # standard deviation of the sensor's noise, levels of 255
    SHARPEN=(0.0, 1.5),  # strength of the camera's own sharpening
    JPEG_PROB=0.3,  # share of images that went through JPEG
)

DATALOADER = dict(  # how samples are read
    NUM_WORKERS=-1,  # processes that prepare samples; 0 for the main process, -1: half of the cores
    FILTER_VISIB_THR=0.0,  # drop training instances with a visible fraction up to this
    FILTER_EMPTY_DETS=True,  # accepted, without effect: an image without a detection gives no ROI
    # accepted, without effect: sampling of the ancestor's detector framework
    MAX_OBJS_TRAIN=120,
    ASPECT_RATIO_GROUPING=False,
    SAMPLER_TRAIN="TrainingSampler",
    REPEAT_THRESHOLD=0.0,
    FILTER_EMPTY_ANNOTATIONS=True,
)

SOLVER = dict(  # optimizer, learning rate, length, checkpoints
    IMS_PER_BATCH=6,  # ROIs in a batch
    REFERENCE_BS=-1,  # accumulate batches up to about so many ROIs a step; -1: one batch a step
    TOTAL_EPOCHS=160,  # passes over the training samples
    # The optimizer by name, and its arguments. Another type starts anew, with lr; _delete_=True clears what bases gave.
    OPTIMIZER_CFG=dict(
        type="RMSprop",  # Ranger, AdamW, Adam, SGD, RMSprop or any other class of torch.optim
        lr=1e-4,  # learning rate
        momentum=0.0,  # RMSprop's and SGD's
        weight_decay=0,  # strength of the pull to zero
    ),
    BASE_LR=1e-4,  # accepted, without effect: OPTIMIZER_CFG.lr counts
    WEIGHT_DECAY=0.0,  # accepted, without effect: OPTIMIZER_CFG.weight_decay counts
    MOMENTUM=0.9,  # accepted, without effect: OPTIMIZER_CFG.momentum counts
    GAMMA=0.1,  # factor of each step of a step schedule
    BIAS_LR_FACTOR=1.0,  # factor of the biases' learning rates
    LR_SCHEDULER_NAME="WarmupMultiStepLR",  # WarmupMultiStepLR (REL_STEPS, GAMMA) or flat_and_anneal (ANNEAL_*)
    WARMUP_METHOD="linear",  # linear, constant, pow or exp
    WARMUP_FACTOR=1e-3,  # learning rate at the first iteration, as a share
    WARMUP_ITERS=1000,  # iterations of the warm-up; at most a tenth of the run
    ANNEAL_METHOD="step",  # after the flat part: cosine, linear, poly, exp, step, none
    ANNEAL_POINT=0.72,  # where the flat part ends, as a share of all iterations
    POLY_POWER=0.9,  # exponent of ANNEAL_METHOD poly
    REL_STEPS=(0.5, 0.75),  # steps, as shares of all iterations
    CLIP_GRADIENTS=0.0,  # largest norm of all gradients; 0 for no limit
    CHECKPOINT_PERIOD=5,  # epochs (or iterations) between checkpoints
    CHECKPOINT_BY_EPOCH=True,  # whether CHECKPOINT_PERIOD counts epochs, else iterations
    MAX_TO_KEEP=5,  # checkpoints kept
    BEST_METRIC="ad_0.10",  # best.pth is the best by this score on the first test split; names as in scores.json
    AMP=dict(  # mixed precision in training
        ENABLED=False,  # half precision but for the pose and the losses; pays on GPUs, and on CPUs with AMX
        # bfloat16; auto: bfloat16, but float32 on a CPU without units for it; on a GPU float16 with a scaled loss, too
        DTYPE="bfloat16",
    ),
)

TRAIN = dict(  # the training loop: what it prints, and when losses join
    PRINT_FREQ=100,  # iterations between console lines and entries of metrics.json
    MAX_SKIPPED=10,  # a step that is not finite is skipped; so many in a row end the run
    CT_START=0.2,  # share of the epochs after which loss_ct joins
    CT_P_START=0.2,  # share of the epochs after which loss_ct_pro joins
    # accepted, without effect: sopose samples draws what is trained on
    VERBOSE=False,
    VIS=False,
    VIS_IMG=False,
)

VAL = dict(  # what is to be found in the test images, and the report
    TARGETS_FILENAME="",  # targets json in the data set's folder; "" takes test_targets_bop19.json, or makes them
    USE_BOP=False,  # accepted, without effect: BOP's scores are always computed, in-process
    REPORT_CASES=24,  # test ROIs drawn in the html report
    # accepted, without effect: the ancestor's external evaluation scripts
    DATASET_NAME="lm",
    SCRIPT_PATH="lib/pysixd/scripts/eval_pose_results_more.py",
    RESULTS_PATH="",
    ERROR_TYPES="ad,rete,re,te,proj",
    RENDERER_TYPE="cpp",
    SPLIT="test",
    SPLIT_TYPE="bb8",
    N_TOP=1,
    EVAL_CACHED=False,
    SCORE_ONLY=False,
    EVAL_PRINT_ONLY=False,
    EVAL_PRECISION=False,
)

TEST = dict(  # evaluation
    EVAL_PERIOD=0,  # epochs between evaluations during training; 0: only at the end
    # est: DET_FILES_TEST; gt: boxes of scene_gt_info; csv: boxes of the models at the poses of INIT_POSE_FILES_TEST
    TEST_BBOX_TYPE="est",
    BBOX_JITTER=0.0,  # boxes of gt are moved and scaled by up to this share of their size, alike in every run
    IMS_PER_BATCH=32,  # ROIs in a test batch
    AMP_TEST=False,  # bfloat16: on a GPU all but the pose, on a CPU with AVX512-BF16 or AMX the two heads
    USE_PNP=False,  # pose from the maps by PnP, too few or bad points aside; else from the network
    # ransac_pnp: from the maps alone; net_iter_pnp: refined from the network's pose by all points; net_ransac_pnp: the
    # network's pose or RANSAC's, whichever more points agree with, refined; net_ransac_pnp_rot: of that the rotation;
    # weighted_pnp: from that pose all points, each as much as the network is sure of it (XYZ_SCALE, Q0_SCALE)
    PNP_TYPE="ransac_pnp",
    PNP_LAYERS="P",  # points of the visible surface (P), or those of the second layer as well (P+Q)
    PNP_REPROJ_ERROR=3.0,  # pixels within which a point agrees with a pose
    PNP_ITERATIONS=100,  # samples that RANSAC draws at most
    PNP_CONFIDENCE=0.99,  # RANSAC ends when it has found the best pose with this probability
    # Degrees, such as (-30, 30, -20, 20, -10, 10), by which cameras are rolled that see each box as well, a pass of the
    # network each: the pose is the mean of those within 45 degrees of the most central one
    ROLLS=(),
    DEPTH=False,  # correct distances at the end by the depth images of the split, as GDRNPP does
    # second looks: the object is rendered at its pose, and the pose corrected by where the image shows its surface
    REFINE=dict(
        ITERATIONS=0,  # how often, 0: never
        # poses tried: the pose, by PnP (4), with ROLLS of each view alone, the pose 7 % nearer and farther (6, with
        # six rolls 13), turned by 25 degrees (12 or 19), by 50 (18 or 25)
        STARTS=1,
        PRIOR_SCALE=1.0,  # errors of the poses before, over those that the refiner learned to correct (some 8 degrees)
        IMAGE_ERROR=2.0,  # pixels by which all of an object may seem to be elsewhere in a photograph, for covariances
        CONFIDENCE_AT_THRESHOLD=0.3,  # needed in a box at the detector's threshold, less in surer boxes; for predict
        WEIGHTS="any_object",  # the refiner that comes along, or a file that sopose refiner wrote
    ),
    VIS=False,  # accepted, without effect: pictures are in the html report
    PRECISE_BN=dict(ENABLED=False, NUM_ITER=200),  # accepted, without effect: batch statistics stay as trained
)

DIST_PARAMS = dict(backend="nccl")  # accepted, without effect: the ancestor's launcher
