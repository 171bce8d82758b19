"""Writes ONNX files of torchvision's and timm's classifiers with seeded random weights, by both of PyTorch's exporters.

    python export.py FOLDER [--only torchscript|dynamo] [NAME ...]

Needs torch, torchvision, timm, onnx, onnxscript. Statistics of batch-norms are random too, so that folding them shows.
"""
import sys, pathlib, warnings
import torch, torchvision.models as tv
warnings.filterwarnings("ignore")

TV = ["resnet18", "resnet50", "vgg11", "squeezenet1_1", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
      "shufflenet_v2_x1_0", "regnet_y_400mf", "mnasnet0_5", "googlenet", "convnext_tiny"]
TIMM = ["mobilenetv4_conv_small", "convnext_atto", "resnet26d", "tf_efficientnet_lite0", "repvgg_a0", "ghostnet_100",
        "vit_tiny_patch16_224", "deit_tiny_patch16_224", "mobilevit_xxs", "mixer_s32_224"]

def build(name):
    torch.manual_seed(0)
    if name in TIMM:
        import timm
        size = {"img_size": 64} if name.startswith(("vit", "deit", "mixer")) else {}
        model = timm.create_model(name, pretrained=False, num_classes=10, **size)
    else:
        extra = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
        model = getattr(tv, name)(weights=None, num_classes=10, **extra)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.7, 1.3)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()

def main():
    folder, *names = sys.argv[1:]
    folder = pathlib.Path(folder); folder.mkdir(parents=True, exist_ok=True)
    exporters = ["torchscript", "dynamo"]
    if names[:1] == ["--only"]:
        exporters, names = [names[1]], names[2:]
    for name in names or TV + TIMM:
        # VGG's adaptive pool would enlarge 64x64.
        size = 224 if name.startswith("vgg") else 64
        image = torch.zeros(1, 3, size, size)
        for exporter in exporters:
            path = folder / f"{name}.{exporter}.onnx"
            if path.exists():
                continue
            try:
                model = build(name)
                if exporter == "torchscript":
                    torch.onnx.export(model, image, path, dynamo=False, opset_version=13, input_names=["input"], output_names=["logits"],
                                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})
                else:
                    torch.onnx.export(model, (image,), path, dynamo=True, external_data=False, input_names=["input"],
                                      output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), verbose=False)
                print(path.name, path.stat().st_size, flush=True)
            except Exception as error:
                print(path.name, "not exported:", str(error).splitlines()[0][:150], flush=True)

main()
