"""The network and its losses. Every key, its default and its meaning."""

_base_ = ["./common_base.py"]

MODEL = dict(  # the network, its weights and its losses
    DEVICE="cuda",  # cuda, cuda:1, cpu; falls back to cpu with a warning where there is no GPU
    COMPILE=False,  # run the network through torch.compile; the first steps then take minutes
    SYNC_BN=False,  # batch statistics over the GPUs of all processes
    WEIGHTS="",  # checkpoint to start from, or to evaluate; "" takes the run's last one with --eval-only
    START="",  # checkpoint of any objects that a training starts from where WEIGHTS is ""; "" for none
    PIXEL_MEAN=[0, 0, 0],  # in [0, 255], in the order of INPUT.FORMAT
    PIXEL_STD=[255.0, 255.0, 255.0],  # pixels are (value - mean) / std
    LOAD_DETS_TEST=False,  # accepted, without effect: TEST.TEST_BBOX_TYPE decides
    EMA=dict(  # moving average of the weights, used at test
        ENABLED=False,  # keep the average
        INIT_CFG=dict(  # arguments of the average
            decay=0.9999,  # share of the old average that a step leaves; the first steps leave less
            updates=0,  # accepted, without effect: a resumed run continues to count
        ),
    ),
    KEYPOINT_ON=False,  # accepted, without effect: the ancestor's detector framework
    LOAD_PROPOSALS=False,  # accepted, without effect: the ancestor's detector framework
    POSE_NET=dict(  # the network from a crop to a pose
        NAME="GDRN",  # GDRN is the only one
        XYZ_ONLINE=False,  # accepted, without effect: maps are cast online
        NUM_CLASSES=13,  # objects a class-aware output distinguishes; at least as many as are trained
        USE_MTL=False,  # learn the weights of the losses
        INPUT_RES=256,  # side of the network's input, pixels
        OUTPUT_RES=64,  # side of the maps
        BACKBONE=dict(  # features of the crop
            FREEZE=False,  # its weights don't learn
            LR_MULT=1.0,  # share of the learning rate
            FREEZE_AT=0,  # freeze the first stages only; each halves the resolution
            # the depthwise filters don't learn: their gradients, few numbers, cost a CPU much of its step
            FREEZE_DEPTHWISE=False,
            # timm or tv: the library's own weights (network needed); "" or none: random; or a .pth or .safetensors file
            PRETRAINED="timm",
            INIT_CFG=dict(  # arguments of the backbone
                type="timm/resnet34",  # timm/NAME, tv/NAME (torchvision), or for CPUs own/plain and own/plain_light
                in_chans=3,  # channels of the image
                features_only=True,  # accepted, without effect: the classifier is always left out
                pretrained=True,  # False leaves PRETRAINED timm and tv aside
                out_indices=(4,),  # stages whose maps are used, the finest is 0; without NECK the last of them counts
            ),
        ),
        NECK=dict(  # feature pyramid between backbone and heads
            ENABLED=False,  # True: a feature pyramid between backbone and heads
            FREEZE=False,  # its weights don't learn
            LR_MULT=1.0,  # share of the learning rate
            INIT_CFG=dict(  # arguments of the pyramid
                type="FPN",  # FPN, or TopDown: the finest of its maps alone, for CPUs
                in_channels=[256, 512, 1024, 2048],  # of the backbone's maps that out_indices name
                out_channels=256,  # of every map of the pyramid; the heads' in_dim
                num_outs=4,  # maps; as many as in_channels, 1 for TopDown
                blocks=(),  # residual blocks of each of TopDown's maps, the finest first
            ),
        ),
        GEO_HEAD=dict(  # mask, P and regions
            FREEZE=False,  # its weights don't learn, its losses are left out
            LR_MULT=1.0,  # share of the learning rate
            INIT_CFG=dict(  # arguments of the head
                type="TopDownMaskXyzRegionHead",  # TopDownMaskXyzRegionHead is the only one
                in_dim=512,  # channels of the map it sees: the backbone's last, or NECK's out_channels
                up_types=("deconv", "bilinear", "bilinear"),  # of each doubling: deconv, bilinear, nearest; () for none
                deconv_kernel_size=3,  # side of the deconvolution's kernel: 2, 3 or 4
                num_conv_per_block=2,  # convolutions after each up-sampling, or instead of it
                feat_dim=256,  # channels of the trunk
                feat_kernel_size=3,  # side of its kernels
                norm="GN",  # GN, BN, SyncBN or FrozenBN
                num_gn_groups=32,  # groups of GN
                act="GELU",  # relu, lrelu, silu, gelu or mish, in any case
                out_kernel_size=1,  # side of the output layer's kernel
                out_layer_shared=True,  # one output layer for mask, P and regions, else one each
            ),
            XYZ_BIN=64,  # bins of each coordinate where XYZ_LOSS_TYPE classifies
            XYZ_CLASS_AWARE=False,  # P of each of NUM_CLASSES objects by channels of its own
            MASK_CLASS_AWARE=False,  # the mask of each object by channels of its own
            REGION_CLASS_AWARE=False,  # the regions of each object by channels of their own
            XYZ_SCALE=False,  # predict how far P may be off in each cell: the scale of a Laplace law; that is the loss
            MASK_THR_TEST=0.5,  # mask probability above which TEST.USE_PNP takes a cell's P
            NUM_REGIONS=64,  # surface regions; 1 or less for none
        ),
        SELFOCC_HEAD=dict(  # the second layer, Q
            ENABLED=True,  # False: a single layer, as GDR-Net
            FREEZE=False,  # its weights don't learn, its losses are left out
            LR_MULT=1.0,  # share of the learning rate
            OCCMASK_AWARE=False,  # predict where Q is valid, too
            Q0_SCALE=False,  # the same for each part of Q
            Q0_CLASS_AWARE=False,  # Q of each of NUM_CLASSES objects by channels of its own
            MASK_CLASS_AWARE=False,  # the validity of Q likewise, with OCCMASK_AWARE
            REGION_CLASS_AWARE=False,  # accepted, without effect: Q has no regions
            MASK_THR_TEST=0.5,  # predicted validity above which TEST.USE_PNP takes a cell's Q, with OCCMASK_AWARE
            MIN_Q0_REGION=20,  # cells a plane's layer needs in the batch to count
            INIT_CFG=dict(  # arguments of the head
                type="ConvSelfoccHead",  # ConvSelfoccHead is the only one
                in_dim=512,  # channels of the map it sees: as GEO_HEAD's
                up_types=("deconv", "bilinear", "bilinear"),  # of each doubling: deconv, bilinear, nearest; () for none
                deconv_kernel_size=3,  # side of the deconvolution's kernel: 2, 3 or 4
                num_conv_per_block=2,  # convolutions after each up-sampling, or instead of it
                feat_dim=256,  # channels of the trunk
                feat_kernel_size=3,  # side of its kernels
                norm="GN",  # GN, BN, SyncBN or FrozenBN
                num_gn_groups=32,  # groups of GN
                act="GELU",  # relu, lrelu, silu, gelu or mish, in any case
                out_kernel_size=1,  # side of the output layer's kernel
                out_layer_shared=False,  # one output layer for Q and its validity, else one each
                Q0_num_classes=1,  # accepted, without effect: Q0_CLASS_AWARE and NUM_CLASSES say it
                mask_num_classes=1,  # accepted, without effect: MASK_CLASS_AWARE and NUM_CLASSES say it
            ),
        ),
        PNP_NET=dict(  # from the maps to the pose
            FREEZE=False,  # its weights don't learn
            LR_MULT=1.0,  # share of the learning rate
            INIT_CFG=dict(  # arguments of the network
                type="ConvPnPNet",  # ConvPnPNet or SimplePointPnPNet
                featdim=128,  # channels of its convolutions
                norm="GN",  # GN, BN, SyncBN or FrozenBN
                act="relu",  # relu (LeakyReLU in the linear layers), lrelu, silu, gelu or mish
                num_gn_groups=32,  # groups of GN
                drop_prob=0.0,  # of DropBlock on the input maps while training
                dropblock_size=5,  # side of a dropped block, cells
                flat_op="flatten",  # from maps to numbers: flatten, avg, avg-max or avg-max-min
                denormalize_by_extent=True,  # P in metres, where P is neither binned nor followed by Q (GDR-Net)
                linear_init="normal",  # normal: N(0, 0.001), as published; kaiming: for short runs
            ),
            WITH_2D_COORD=False,  # pixel coordinates as input
            REGION_ATTENTION=False,  # region probabilities as input
            MASK_ATTENTION="none",  # none, concat or mul
            ROT_TYPE="ego_rot6d",  # {allo, ego}_{rot6d, quat, log_quat, lie_vec}
            TRANS_TYPE="centroid_z",  # centroid_z, centroid_z_abs or trans
            Z_TYPE="REL",  # depth relative to the zoom (REL) or in metres (ABS)
        ),
        LOSS_CFG=dict(  # losses and their weights
            XYZ_LOSS_TYPE="L1",  # L1 or CE_coor
            XYZ_LOSS_MASK_GT="visib",  # mask the loss runs over: obj, visib, trunc or erode
            XYZ_LW=1.0,  # LW: weight of the loss; 0 leaves it out
            MASK_LOSS_TYPE="L1",  # L1, BCE or CE
            MASK_LOSS_GT="trunc",  # mask that is learned: obj, visib, trunc or erode
            MASK_LW=1.0,  # weight of loss_mask
            REGION_LOSS_TYPE="CE",  # CE is the only one
            REGION_LOSS_MASK_GT="visib",  # mask the loss runs over: obj, visib, trunc or erode
            REGION_LW=1.0,  # weight of loss_region
            NUM_PM_POINTS=3000,  # model points of the point-matching loss
            PM_LOSS_TYPE="L1",  # L1, smooth_l1, MSE or L2
            PM_SMOOTH_L1_BETA=1.0,  # where smooth_l1 turns from quadratic to linear
            PM_LOSS_SYM=False,  # match the closest symmetric pose
            PM_NORM_BY_EXTENT=False,  # divide by the largest side of the object's box
            PM_R_ONLY=True,  # rotate only
            PM_DISENTANGLE_T=False,  # with PM_R_ONLY=False: rotation and translation each with the other at the truth
            PM_DISENTANGLE_Z=False,  # likewise rotation, image plane and depth
            PM_T_USE_POINTS=True,  # disentangled translations move the points, else they are compared themselves
            PM_LW=1.0,  # weight of loss_PM_*
            ROT_LOSS_TYPE="angular",  # angular or L2
            ROT_LW=0.0,  # weight of loss_rot
            CENTROID_LOSS_TYPE="L1",  # L1, smooth_l1, MSE or L2
            CENTROID_LW=1.0,  # weight of loss_centroid, with TRANS_TYPE centroid_z
            Z_LOSS_TYPE="L1",  # L1, smooth_l1, MSE or L2
            Z_LW=1.0,  # weight of loss_z, with TRANS_TYPE centroid_z
            TRANS_LOSS_TYPE="L1",  # L1, smooth_l1, MSE or L2
            TRANS_LOSS_DISENTANGLE=True,  # loss_trans_xy and loss_trans_z, else loss_trans_LPnP
            TRANS_LW=0.0,  # weight of the loss on the translation itself
            BIND_LOSS_TYPE="L1",  # L1, smooth_l1, MSE or L2
            BIND_LW=0.0,  # weight of loss_bind: the camera's place in the object's frame
            Q0_LOSS_TYPE="L1",  # L1, or CE_coor with XYZ_LOSS_TYPE CE_coor
            Q0_LOSS_MASK_GT="visib",  # accepted, without effect: Q is learned where it is valid
            Q0_LW=1.0,  # second layer
            Q0_DEF_LW=0.0,  # loss_q_def: Q on its own pixel's ray, true pose
            FIT_LW=0.0,  # loss_fit: how wrong a weighted PnP on P will be, with XYZ_SCALE
            CT_LW=0.0,  # loss_ct: P, Q and camera on one line, predicted pose, metres
            CT_P_LW=0.0,  # loss_ct_pro: the same in pixels
            OCC_LW=0.0,  # validity of Q, with OCCMASK_AWARE
            QD_LW=0.0,  # accepted, without effect: Q0_DEF_LW is the weight
            HANDLE_SYM=False,  # compare P and Q of symmetric objects as seen by the camera
            CANONICAL_SYM=False,  # of a symmetric object's equal poses learn the one nearest to an upright view
            PLUGINS=(),  # losses that other packages add (entry points sopose.losses), each as "name:weight"
            FOCAL_NORM="mean",  # what pixels are divided by: mean (the ROIs' f_x), or the ancestor's LM constants: lm
        ),
    ),
    REFINE=dict(  # the network of the second look: image and rendered object to displacements of its surface
        BACKBONE="own/plain_light",  # as POSE_NET.BACKBONE.INIT_CFG.type; weights of a network with the same one fit
        OUT_INDICES=(0, 1, 2),  # its maps, from the finest
        PRETRAINED="",  # its first weights where MODEL.WEIGHTS has none, as POSE_NET.BACKBONE.PRETRAINED
        CHANNELS=64,  # of the map that displacements are predicted from
        INPUT_RES=128,  # side of the crop and of the rendering, pixels
        OUTPUT_RES=32,  # side of the map of displacements, cells
        PAD_SCALE=1.2,  # side of the crop over the longer side of the rendered object
        CAUTION=1.0,  # covariances are this many times those measured on renderings: photographs are less certain
        POSE_LW=0.3,  # weight of the loss of the pose that the displacements lead to; theirs has 1
        START=dict(  # how wrong the poses are that it learns from: normal errors, times one of FACTORS
            ROTATION=8.0,  # degrees, root of the mean squared angle
            DEPTH=0.03,  # standard deviation, share of the depth
            ACROSS=0.05,  # standard deviation along the image's axes, diameters of the object
            FACTORS=(0.35, 1.0, 1.0, 2.0),  # looks are repeated, so errors are small and large
        ),
    ),
)
