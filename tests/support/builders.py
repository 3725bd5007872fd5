"""Image builders as QuPath writes them into its projects, one around the other."""


def rotated(builder, degrees):
    return {"builderType": "rotated", "builder": builder, "rotation": f"ROTATE_{degrees}"}


def flipped(builder, flip):
    return {"builderType": "flipped", "builder": builder, "flip": flip}


def cropped(builder, x, y, width, height):
    region = {"x": x, "y": y, "width": width, "height": height, "z": 0, "t": 0}
    return {"builderType": "cropped", "builder": builder, "region": region}


def affine(builder, m00=1.0, m10=0.0, m01=0.0, m11=1.0, m02=0.0, m12=0.0):
    numbers = {"m00": m00, "m10": m10, "m01": m01, "m11": m11, "m02": m02, "m12": m12}
    return {"builderType": "affine", "builder": builder, "transform": numbers}
