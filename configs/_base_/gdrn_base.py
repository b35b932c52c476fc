"""The network and its losses. Every key, its default and its meaning."""

_base_ = ["./common_base.py"]

MODEL = dict(
    DEVICE="cuda",  # cuda, cuda:1, cpu; falls back to cpu with a warning where there is no GPU
    WEIGHTS="",  # checkpoint to start from, or to evaluate; "" takes the run's last one with --eval-only
    PIXEL_MEAN=[0, 0, 0],  # in [0, 255], in the order of INPUT.FORMAT
    PIXEL_STD=[255.0, 255.0, 255.0],
    LOAD_DETS_TEST=False,  # accepted, without effect: TEST.TEST_BBOX_TYPE decides
    # moving average of the weights, used at test; updates is accepted, without effect
    EMA=dict(ENABLED=False, INIT_CFG=dict(decay=0.9999, updates=0)),
    KEYPOINT_ON=False,  # accepted, without effect
    LOAD_PROPOSALS=False,  # accepted, without effect
    POSE_NET=dict(
        NAME="GDRN",
        XYZ_ONLINE=False,  # accepted, without effect: maps are cast online
        NUM_CLASSES=13,  # objects a class-aware output tells apart; at least as many as are trained
        USE_MTL=False,  # learn the weights of the losses
        INPUT_RES=256,  # side of the network's input, pixels
        OUTPUT_RES=64,  # side of the maps
        BACKBONE=dict(
            FREEZE=False,
            FREEZE_AT=0,  # freeze the first stages only; each halves the resolution
            PRETRAINED="timm",  # timm: its own weights (network needed); "": random; or a .pth or .safetensors file
            INIT_CFG=dict(type="timm/resnet34", in_chans=3, features_only=True, pretrained=True, out_indices=(4,)),
        ),
        NECK=dict(
            ENABLED=False,  # True is not available, and the keys below wait for it
            FREEZE=False,
            LR_MULT=1.0,
            INIT_CFG=dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=4),
        ),
        GEO_HEAD=dict(
            FREEZE=False,
            LR_MULT=1.0,
            INIT_CFG=dict(
                type="TopDownMaskXyzRegionHead",
                in_dim=512,  # channels of the backbone's last feature map
                up_types=("deconv", "bilinear", "bilinear"),
                deconv_kernel_size=3,
                num_conv_per_block=2,
                feat_dim=256,
                feat_kernel_size=3,
                norm="GN",
                num_gn_groups=32,
                act="GELU",
                out_kernel_size=1,
                out_layer_shared=True,
            ),
            XYZ_BIN=64,  # bins of each coordinate where XYZ_LOSS_TYPE classifies
            XYZ_CLASS_AWARE=False,
            MASK_CLASS_AWARE=False,
            REGION_CLASS_AWARE=False,
            MASK_THR_TEST=0.5,  # accepted, without effect: poses don't come from the masks
            NUM_REGIONS=64,  # surface regions; 1 or less for none
        ),
        SELFOCC_HEAD=dict(
            ENABLED=True,  # False: a single layer, as GDR-Net
            FREEZE=False,
            LR_MULT=1.0,
            OCCMASK_AWARE=False,  # predict where Q is valid, too
            Q0_CLASS_AWARE=False,
            MASK_CLASS_AWARE=False,
            REGION_CLASS_AWARE=False,  # accepted, without effect: Q has no regions
            MASK_THR_TEST=0.5,  # accepted, without effect: poses don't come from the masks
            MIN_Q0_REGION=20,  # cells a plane's layer needs in the batch to count
            INIT_CFG=dict(
                type="ConvSelfoccHead",
                in_dim=512,
                up_types=("deconv", "bilinear", "bilinear"),
                deconv_kernel_size=3,
                num_conv_per_block=2,
                feat_dim=256,
                feat_kernel_size=3,
                norm="GN",
                num_gn_groups=32,
                act="GELU",
                out_kernel_size=1,
                out_layer_shared=False,
                Q0_num_classes=1,
                mask_num_classes=1,
            ),
        ),
        PNP_NET=dict(
            FREEZE=False,
            LR_MULT=1.0,
            INIT_CFG=dict(
                type="ConvPnPNet",
                featdim=128,
                norm="GN",
                act="relu",
                num_gn_groups=32,
                drop_prob=0.0,
                linear_init="normal",  # normal: N(0, 0.001), as published; kaiming: for short runs
            ),
            WITH_2D_COORD=False,  # pixel coordinates as input
            REGION_ATTENTION=False,  # region probabilities as input
            MASK_ATTENTION="none",  # none, concat or mul
            ROT_TYPE="ego_rot6d",  # {allo, ego}_{rot6d, quat, log_quat, lie_vec}
            TRANS_TYPE="centroid_z",  # centroid_z, centroid_z_abs or trans
            Z_TYPE="REL",  # depth relative to the zoom (REL) or in metres (ABS)
        ),
        LOSS_CFG=dict(
            XYZ_LOSS_TYPE="L1",  # L1 or CE_coor
            XYZ_LOSS_MASK_GT="visib",  # mask the loss runs over: obj, visib, trunc or erode
            XYZ_LW=1.0,  # LW: weight of the loss; 0 leaves it out
            MASK_LOSS_TYPE="L1",  # L1, BCE or CE
            MASK_LOSS_GT="trunc",
            MASK_LW=1.0,
            REGION_LOSS_TYPE="CE",
            REGION_LOSS_MASK_GT="visib",
            REGION_LW=1.0,
            NUM_PM_POINTS=3000,  # model points of the point-matching loss
            PM_LOSS_TYPE="L1",  # L1, smooth_l1, MSE or L2
            PM_SMOOTH_L1_BETA=1.0,
            PM_LOSS_SYM=False,  # match the closest symmetric pose
            PM_NORM_BY_EXTENT=False,
            PM_R_ONLY=True,  # rotate only
            PM_DISENTANGLE_T=False,
            PM_DISENTANGLE_Z=False,
            PM_T_USE_POINTS=True,
            PM_LW=1.0,
            ROT_LOSS_TYPE="angular",
            ROT_LW=0.0,
            CENTROID_LOSS_TYPE="L1",
            CENTROID_LW=1.0,
            Z_LOSS_TYPE="L1",
            Z_LW=1.0,
            TRANS_LOSS_TYPE="L1",
            TRANS_LOSS_DISENTANGLE=True,
            TRANS_LW=0.0,
            BIND_LOSS_TYPE="L1",
            BIND_LW=0.0,
            Q0_LOSS_TYPE="L1",
            Q0_LOSS_MASK_GT="visib",  # accepted, without effect: Q is learned where it is valid
            Q0_LW=1.0,  # second layer
            Q0_DEF_LW=0.0,  # loss_q_def: Q on its own pixel's ray, true pose
            CT_LW=0.0,  # loss_ct: P, Q and camera on one line, predicted pose, metres
            CT_P_LW=0.0,  # loss_ct_pro: the same in pixels
            OCC_LW=0.0,  # validity of Q, with OCCMASK_AWARE
            QD_LW=0.0,  # accepted, without effect
            HANDLE_SYM=False,  # compare P and Q of symmetric objects as seen by the camera
            FOCAL_NORM="mean",  # what pixels are divided by: mean (the ROIs' f_x), or the ancestor's LM constants: lm
        ),
    ),
)
