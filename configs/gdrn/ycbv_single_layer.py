"""The single-layer baseline (GDR-Net) on YCB-V: the same network without the second layer and its losses."""

_base_ = ["../gdrn_selfocc/ycbv/gdrn_selfocc_multistep_10e.py"]

OUTPUT_DIR = "output/gdrn/ycbv/single_layer"
MODEL = dict(
    POSE_NET=dict(
        SELFOCC_HEAD=dict(ENABLED=False),
        LOSS_CFG=dict(Q0_LW=0.0, Q0_DEF_LW=0.0, CT_LW=0.0, CT_P_LW=0.0),
    ),
)
