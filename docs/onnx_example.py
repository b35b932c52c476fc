"""The pose of an object in a photograph, from an .onnx file with numpy, OpenCV and onnxruntime alone.

    pip install numpy opencv-python-headless onnxruntime
    python onnx_example.py model.onnx photo.jpg --K 572.4,573.6,325.3,242.0 --box can,210,140,330,290

It needs nothing of the software that wrote the file: copy it, or translate it. K is that of this very image, in pixels;
a box is a name and the corners x1, y1, x2, y2. Pixel centres lie at whole numbers.
"""

import argparse
import json
import sys

import cv2
import numpy as np
import onnxruntime


def crop_image(image_bgr, center, side, crop):
    """The square window as the network wants it: (3, size, size) float32."""
    size = crop["input_res"]
    step, (left, top) = side / size, center - side / 2
    window = np.array([[step, 0, left], [0, step, top]])
    pixels = cv2.warpAffine(image_bgr, window, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    if crop["pixel_format"] == "RGB":
        pixels = pixels[..., ::-1]
    scaled = (pixels.astype(np.float32) - np.float32(crop["pixel_mean"])) / np.float32(crop["pixel_std"])
    return scaled.transpose(2, 0, 1)


def make_inputs(image_bgr, K, box, extent, class_index, crop):
    """All that a network of this kind can ask for about one box: name -> array with a batch of one."""
    height, width = image_bgr.shape[:2]
    x1, y1, x2, y2 = box
    center, wh = np.array([x1 + x2, y1 + y2]) / 2, np.maximum([x2 - x1, y2 - y1], 1.0)
    side = float(np.clip(wh.max() * crop["pad_scale"], 1.0, max(width, height)))

    # Where the cells of the network's maps lie in the image, from 0 to 1.
    cells = crop["output_res"]
    offsets = (np.arange(cells) - cells / 2) * side / cells
    u, v = np.meshgrid((center[0] + offsets) / (width - 1), (center[1] + offsets) / (height - 1))

    # The network knows depth by pixels, so for the focal lengths of its training: any other image is taken for its
    # enlargement to the nearest of them.
    factor = 1.0
    if crop["focal"]:
        focal = np.sqrt(K[0, 0] * K[1, 1])
        factor = np.clip(focal, *crop["focal"]) / focal
    K = np.diag([factor, factor, 1.0]) @ K

    values = {
        "image": crop_image(image_bgr, center, side, crop),
        "roi_coord_2d": np.stack([u, v]),
        "K": K,
        "box_center": factor * center,
        "box_wh": factor * wh,
        "resize_ratio": cells / side / factor,
        "extent": extent,
    }
    inputs = {name: np.asarray(value, np.float32)[None] for name, value in values.items()}
    inputs["class_index"] = np.array([class_index], np.int64)
    return inputs


def main():
    """Print the pose as json: cam_R_obj (3, 3) and cam_t_obj (3,) in metres."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("image")
    parser.add_argument("--K", required=True, metavar="FX,FY,CX,CY")
    parser.add_argument("--box", required=True, metavar="NAME,X1,Y1,X2,Y2")
    args = parser.parse_args()

    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    crop, objects = json.loads(metadata["crop"]), json.loads(metadata["facts"])["models"]

    name, *corners = args.box.split(",")
    names = [known["name"] for known in objects]  # in the order of the network's classes
    if name not in names:
        sys.exit(f"the network doesn't know '{name}' (known: {', '.join(names)})")
    index = names.index(name)
    fx, fy, cx, cy = map(float, args.K.split(","))
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    image_bgr = cv2.imread(args.image)
    if image_bgr is None:
        sys.exit(f"{args.image} cannot be read as an image")

    inputs = make_inputs(image_bgr, K, list(map(float, corners)), objects[index]["extent"], index, crop)
    asked = {node.name: inputs[node.name] for node in session.get_inputs()}
    rotation, translation = session.run(["cam_R_obj", "cam_t_obj"], asked)
    # A point of the object's frame lies at cam_R_obj @ point + cam_t_obj in the camera's, metres.
    print(json.dumps({"object": name, "cam_R_obj": rotation[0].tolist(), "cam_t_obj": translation[0].tolist()}))


if __name__ == "__main__":
    main()
