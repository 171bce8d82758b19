"""Writes crates/lowbit-onnx/tests/golden/attention.json: small transformers and a mixer as PyTorch's two exporters write them, with
PyTorch's logits.

    python bench/onnx/attention.py crates/lowbit-onnx/tests/golden/attention.json

Needs torch, onnx, onnxscript. Names end in the exporter and the opset; those that begin with "refused" are not computed.
"""
import base64, io, json, pathlib, sys, warnings
import torch, onnx
import torch.nn.functional as F
from torch import nn
warnings.filterwarnings("ignore")

DIM, HEADS, SIDE, CLASSES = 12, 3, 8, 5


class Embedding(nn.Module):
    """Patches as tokens, a class token in front, a position for each."""
    def __init__(self, prefix=1):
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, 4, 4)
        self.token = nn.Parameter(torch.randn(1, prefix, DIM)) if prefix else None
        self.position = nn.Parameter(torch.randn(1, prefix + (SIDE // 4) ** 2, DIM))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return x + self.position


class Joint(nn.Module):
    """Queries, keys and values of one product, as timm has them."""
    def __init__(self, mask=False, causal=False):
        super().__init__()
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.mask, self.causal = mask, causal

    def forward(self, x):
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.full((tokens, tokens), 0.5).triu(1) if self.mask else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(n, tokens, DIM))


class Plain(nn.Module):
    """Three products, and the formula written out."""
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, x):
        n, tokens, _ = x.shape
        q, k, v = (part(x).view(n, tokens, HEADS, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) / 2.5).softmax(-1)
        return (weights @ v).transpose(1, 2).contiguous().view(n, tokens, DIM)


class Torch(nn.Module):
    """PyTorch's own module, which torchvision's transformers use."""
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(DIM), attention, nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 20), nn.GELU(), nn.Linear(20, DIM))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, attention, prefix=1):
        super().__init__()
        self.embedding, self.block, self.norm = Embedding(prefix), Block(attention), nn.LayerNorm(DIM)
        self.head, self.prefix = nn.Linear(DIM, CLASSES), prefix

    def forward(self, x):
        x = self.norm(self.block(self.embedding(x)))
        # The class token, or the mean of what is no register.
        return self.head(x[:, 0] if self.prefix == 1 else x[:, self.prefix:].mean(1))


class Mobile(nn.Module):
    """MobileViT: pixels at the same place of patches attend each other."""
    def __init__(self, windows=False):
        super().__init__()
        self.before, self.block = nn.Conv2d(3, DIM, 3, padding=1), Block(Joint())
        self.after, self.head, self.windows = nn.Conv2d(DIM, DIM, 3, padding=1), nn.Linear(DIM, CLASSES), windows

    def forward(self, x):
        x = self.before(x)
        n, c, h, w = x.shape
        if self.windows:
            y = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
            y = self.block(y).reshape(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        else:
            y = x.reshape(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
            y = y.reshape(n, c, h * w // 4, 4).transpose(1, 3).reshape(n * 4, h * w // 4, c)
            y = self.block(y).contiguous().view(n, 4, h * w // 4, c).transpose(1, 3)
            y = y.reshape(n * c * (h // 2), w // 2, 2, 2).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.after(y).mean((2, 3)))


class Mixer(nn.Module):
    """Products over the tokens, then over the channels."""
    def __init__(self):
        super().__init__()
        self.patches, tokens = nn.Conv2d(3, DIM, 2, 2), (SIDE // 2) ** 2
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(DIM) for _ in range(3))
        self.tokens = nn.Sequential(nn.Linear(tokens, 9), nn.GELU(), nn.Linear(9, tokens))
        self.channels = nn.Sequential(nn.Linear(DIM, 20), nn.GELU(), nn.Linear(20, DIM))
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm3(x + self.channels(self.norm2(x))).mean(1))


NETWORKS = {
    "joint": lambda: Transformer(Joint()), "plain": lambda: Transformer(Plain(), 0), "torch": lambda: Transformer(Torch()),
    "registers": lambda: Transformer(Joint(), 3), "mobile": Mobile, "mixer": Mixer,
    "refused.mask": lambda: Transformer(Joint(mask=True)), "refused.causal": lambda: Transformer(Joint(causal=True)),
    "refused.windows": lambda: Mobile(windows=True),
}
FORMS = [("torchscript", 17), ("dynamo", 20)]
MORE = {"joint": [("torchscript", 14), ("dynamo", 23)], "refused.causal": [("dynamo", 23)]}


def export(model, exporter, opset):
    # Two images, so that an exporter does not take the batch for a constant.
    image, buffer = torch.zeros(2, 3, SIDE, SIDE), io.BytesIO()
    if exporter == "torchscript":
        torch.onnx.export(model, image, buffer, dynamo=False, opset_version=opset, input_names=["input"], output_names=["logits"],
                          dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})
        return onnx.load_from_string(buffer.getvalue())
    return torch.onnx.export(model, (image,), dynamo=True, opset_version=opset, input_names=["input"], output_names=["logits"],
                             dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), verbose=False).model_proto


def small(model):
    """Without where it comes from."""
    for node in model.graph.node:
        node.ClearField("metadata_props"); node.ClearField("doc_string")
    for part in (model, model.graph, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    return model.SerializeToString()


def main():
    encoded = lambda data: base64.b64encode(data).decode()
    pixels = torch.randint(0, 256, (4, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    golden = {"images": encoded(pixels.numpy().tobytes())}
    for name, build in NETWORKS.items():
        for exporter, opset in FORMS + MORE.get(name, []):
            torch.manual_seed(3)
            model = build().eval()
            with torch.no_grad():
                logits = model(pixels.permute(0, 3, 1, 2).float() / 255)
                file = small(export(model, exporter, opset))
            golden[f"{name}.{exporter}{opset}"] = {"file": encoded(file), "logits": encoded(logits.numpy().astype("<f4").tobytes())}
            print(name, exporter, opset, len(file), flush=True)
    pathlib.Path(sys.argv[1]).write_text(json.dumps(golden, indent=0) + "\n")


main()
