"""Parts of tiny video pipelines: tokenizers, encoders, autoencoders and schedulers with next to no channels."""

import string
from typing import Any

import diffusers
import transformers
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

_SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")
WORDS = (*_SPECIAL, *string.ascii_lowercase, *string.digits, " ", ",", ".")


def tokenizer(length: int = 16) -> Any:
    """A tokenizer of single characters."""
    inner = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = Split(Regex("."), "isolated")
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=length, **names)
    made.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return made


def clip_text(kind: Any = None, width: int = 8) -> Any:
    config = transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=16,
        projection_dim=width,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=len(WORDS),
        max_position_embeddings=77,
        eos_token_id=1,
        bos_token_id=3,
        pad_token_id=0,
    )
    return (kind or transformers.CLIPTextModel)(config)


def clip_vision(width: int = 8) -> Any:
    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=width,
            projection_dim=width,
            intermediate_size=16,
            num_attention_heads=2,
            num_hidden_layers=1,
            image_size=224,
            patch_size=112,
        )
    )


def clip_images() -> Any:
    return transformers.CLIPImageProcessor()


def t5(kind: Any = None, width: int = 8) -> Any:
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
    )
    return (kind or transformers.T5EncoderModel)(config)


def umt5(width: int = 8) -> Any:
    config = transformers.UMT5Config(
        vocab_size=len(WORDS), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
    )
    return transformers.UMT5EncoderModel(config)


def llama(width: int = 8) -> Any:
    return transformers.LlamaModel(
        transformers.LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=width,
            intermediate_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=2,
            pad_token_id=0,
        )
    )


def qwen_vl(kind: Any = None) -> Any:
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }
    if kind is transformers.Qwen2_5_VLTextModel:
        return kind(transformers.models.qwen2_5_vl.configuration_qwen2_5_vl.Qwen2_5_VLTextConfig(**text))
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    return transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    )


def image_vae(levels: int = 4, kind: Any = None, channels: int = 4, **more: Any) -> Any:
    """An autoencoder of pictures, 8 times smaller with four levels."""
    return (kind or diffusers.AutoencoderKL)(
        block_out_channels=(channels,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        latent_channels=4,
        **more,
    )


def flow() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=2, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def hunyuan_vae() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        spatial_compression_ratio=8,
        mid_block_add_attention=True,
    )
