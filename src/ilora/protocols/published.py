"""The protocols in use, each with its source; numbers are those of the published evaluation code."""

from dataclasses import replace
from math import inf

from ilora.intrinsics import NAMES
from ilora.protocols.base import Protocol, Rule
from ilora.protocols.steps import ANGLES

METRES = "depth in metres"
RELATIVE = "depth, known up to scale and shift"
DISPARITY = "disparity (larger is nearer), known up to scale and shift"
NORMAL = "normals in RUB"

DEPTHS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")
SHARES = tuple(name for name in ANGLES if name != "rmse_angle")
PICTURES = ("mse", "psnr", "ssim")


def _marigold(name: str, about: str, **changes: object) -> Protocol:
    """Marigold's protocol for depth and disparity with a data set's own crop and range, to which it also clips."""
    depth = replace(_AFFINE, **changes, clip=changes["within"])
    disparity = replace(depth, expects=DISPARITY, align="disparity")
    return Protocol(name=name, about=about, source=_MARIGOLD, rules={"depth": depth, "disparity": disparity})


_AFFINE = Rule(expects=RELATIVE, metrics=(*DEPTHS, "i_rmse"), align="scale_and_shift", space="depth")
_MARIGOLD = (
    "Ke et al. 2024, Marigold; github.com/prs-eth/Marigold at b1dffaa, script/depth/eval.py and src/dataset. Also used "
    "by Lotus, GenPercept and diffusion-e2e-ft. Unlike there, pixels whose predicted disparity is below 0 are fitted "
    "too, and iRMSE is in 1/km. Pictures are not cropped before they are predicted from."
)
_DSINE = (
    "Bae and Davison 2024, DSINE; github.com/baegwangbin/DSINE at acfb813, utils/utils.py. Also used by Lotus and "
    "diffusion-e2e-ft. Unlike there, the median is right to 0.025 deg, and the angle is Kahan's, not an arccosine."
)
_OWN = Rule(expects="the intrinsic's own map, see docs/conventions.md")
_ROOMS = {  # metrics are each intrinsic's own, which align by themselves; these steps are for pictures of the error
    "normal": replace(_OWN, space="vectors"),
    "depth": replace(_OWN, align="scale_and_shift", clip=(1e-3, inf), space="depth"),
    "albedo": replace(_OWN, align="scale", space="linear"),
    "shading": replace(_OWN, align="scale", expose=True, space="linear"),
}
_COLOUR = Rule(expects="linear RGB", metrics=PICTURES, space="linear")

_ALL = (
    Protocol(
        name="rooms",
        about="ilora's own: each intrinsic's metrics over the whole image, averaged over images",
        source="docs/method.md; the default, and what results without a protocol's name were measured under",
        rules=dict.fromkeys(NAMES, _OWN) | _ROOMS,
    ),
    _marigold(
        "marigold-nyu",
        "affine-invariant depth on NYUv2, 654 test images",
        within=(1e-3, 10.0),
        crop="eigen-nyu",
    ),
    _marigold(
        "marigold-kitti",
        "affine-invariant depth on KITTI, Eigen's split, 652 images",
        within=(1e-5, 80.0),
        crop="eigen-kitti",
    ),
    _marigold(
        "marigold-eth3d",
        "affine-invariant depth on ETH3D, aligned on every so-manyth pixel",
        within=(1e-5, inf),
        fit_side=1024,
    ),
    _marigold("marigold-scannet", "affine-invariant depth on ScanNet, 800 sampled images", within=(1e-3, 10.0)),
    _marigold("marigold-diode", "affine-invariant depth on DIODE's validation set", within=(0.6, 350.0)),
    Protocol(
        name="moge",
        about="affine-invariant depth, aligned by weighted absolute error on a thinned image",
        source=(
            "Wang et al. 2025, MoGe; github.com/microsoft/MoGe at 637e23e, moge/test/metrics.py. Unlike there, depth "
            "that the alignment makes negative is clipped at 1e-6 m, so that it cannot pass as a match, and nothing is "
            "added to the truth in AbsRel's denominator."
        ),
        rules={
            "depth": Rule(expects=RELATIVE, metrics=("abs_rel", "delta1"), align="l1", clip=(1e-6, inf), space="depth"),
            "disparity": Rule(expects=DISPARITY, metrics=("abs_rel", "delta1"), align="disparity_far", space="depth"),
        },
    ),
    Protocol(
        name="ransac-log",
        about="affine-invariant depth, aligned by RANSAC on errors of the logarithm",
        source=(
            "After Marigold V2, which aligns by RANSAC in log space. Its draws, tolerance and refit are not known to "
            "us, so these are ilora's own, and its numbers do not compare."
        ),
        rules={"depth": replace(_AFFINE, align="ransac", within=(1e-3, inf), clip=(1e-3, inf))},
    ),
    Protocol(
        name="depth-metric",
        about="depth in metres as it is, without any alignment; with Depth Pro's boundaries",
        source="Eigen et al. 2014; boundary F1: Bochkovskii et al. 2025, Depth Pro, see ilora.ops.boundaries",
        rules={
            "depth": Rule(
                expects=METRES,
                metrics=(*DEPTHS, "i_rmse", "boundary_f1"),
                within=(1e-3, inf),
                clip=(1e-3, inf),
                space="depth",
            )
        },
    ),
    Protocol(
        name="depth-scale",
        about="scale-invariant depth: one scale an image by least squares; with Depth Pro's boundaries",
        source="Eigen et al. 2014 for the metrics",
        rules={
            "depth": Rule(
                expects="depth, known up to scale",
                metrics=(*DEPTHS, "i_rmse", "boundary_f1"),
                within=(1e-3, inf),
                align="scale",
                clip=(1e-3, inf),
                space="depth",
            )
        },
    ),
    Protocol(
        name="median",
        about="scale-invariant depth: each image scaled so that the medians agree, up to 80 m",
        source="Zhou et al. 2017, SfMLearner; its crop of KITTI left out: see sfmlearner-kitti",
        rules={
            "depth": Rule(
                expects="depth, known up to scale",
                metrics=DEPTHS,
                within=(1e-3, 80.0),
                align="median",
                clip=(1e-3, 80.0),
                space="depth",
            )
        },
    ),
    Protocol(
        name="sfmlearner-kitti",
        about="scale-invariant depth on KITTI, Eigen's split, inside Garg's crop: medians agree, up to 80 m",
        source="Zhou et al. 2017, SfMLearner; Garg et al. 2016 for the crop",
        rules={
            "depth": Rule(
                expects="depth, known up to scale",
                metrics=DEPTHS,
                crop="garg-kitti",
                within=(1e-3, 80.0),
                align="median",
                clip=(1e-3, 80.0),
                space="depth",
            )
        },
    ),
    Protocol(
        name="dsine-nyu",
        about="normals on NYUv2, pooled over the pixels of all images",
        source=_DSINE,
        rules={"normal": Rule(expects=NORMAL, metrics=ANGLES, space="RUB", pooled=True)},
    ),
    Protocol(
        name="marigold-normals",
        about="normals, each image by itself, then averaged over images",
        source=(
            "Ke et al. 2025, Marigold; github.com/prs-eth/Marigold at 3f74cba, script/normals/eval.py. Unlike there, "
            "the angle is Kahan's, not an arccosine. It has no root mean square."
        ),
        rules={"normal": Rule(expects=NORMAL, metrics=SHARES, space="RUB")},
    ),
    Protocol(
        name="marigold-iid",
        about="albedo in sRGB as it is; shading after one scale and the truth's exposure, in linear RGB",
        source=(
            "Ke et al. 2025, Marigold, lighting model; github.com/prs-eth/Marigold at b1dffaa, script/iid/eval.py. "
            "Unlike there, invalid pixels have no weight in SSIM's windows (theirs are painted black in both), and "
            "LPIPS is left out. mse is what PSNR is made of, so that there is a number of which less is better."
        ),
        rules={
            "albedo": replace(_COLOUR, space="sRGB"),
            "shading": replace(_COLOUR, align="scale", expose=True, expects="linear RGB, known up to scale"),
        },
    ),
    Protocol(
        name="grosse",
        about="albedo and shading up to one scale, of the image (si-MSE) or of each window of 20 px (LMSE)",
        source=(
            "Grosse et al. 2009, MIT intrinsic images. Unlike there, one scale serves three channels (theirs are "
            "grey), and albedo and shading have their own LMSE, of which theirs is the mean."
        ),
        rules={
            name: replace(
                _COLOUR,
                metrics=("lmse_20", "si_mse", "si_rmse"),
                align="scale",  # LMSE has its own in each window besides
                expects="linear RGB, known up to scale",
            )
            for name in ("albedo", "shading")
        },
    ),
    Protocol(
        name="iiw",
        about="albedo against people's judgements of which of two points is darker",
        source="Bell et al. 2014, Intrinsic Images in the Wild, section 4; differences below a tenth are called equal.",
        rules={"albedo": Rule(expects="linear RGB, at any scale", metrics=("whdr",), judged=True)},
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
