"""Video pipelines of diffusers with tiny random weights, one of each family, saved as diffusers saves them.

Each has the compression of its published autoencoder in time and space, so it makes clips of the same lengths and
multiples of pixels. Its networks have next to no channels.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import transformers
from tiny_parts import (
    WORDS,
    clip_images,
    clip_text,
    clip_vision,
    flow,
    hunyuan_vae,
    image_vae,
    llama,
    qwen_vl,
    t5,
    tokenizer,
    umt5,
    wan_vae,
)


def wan_transformer(inputs: int = 16, kind: Any = None, **more: Any) -> Any:
    return (kind or diffusers.WanTransformer3DModel)(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=inputs,
        out_channels=16,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **more,
    )


def wan_parts(inputs: int = 16, **more: Any) -> dict[str, Any]:
    return {
        "vae": wan_vae(),
        "transformer": wan_transformer(inputs, **more),
        "text_encoder": umt5(),
        "tokenizer": tokenizer(),
        "scheduler": flow(),
    }


def wan_vace() -> Any:
    kind = diffusers.WanVACETransformer3DModel
    return {**wan_parts(), "transformer": wan_transformer(16, kind, vace_layers=[0], vace_in_channels=96)}


def sd_video() -> Any:
    unet = diffusers.UNet3DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    return {
        "vae": image_vae(up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2),
        "text_encoder": clip_text(),
        "tokenizer": tokenizer(),
        "unet": unet,
        "scheduler": diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
    }


def sd_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=64,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    )


def animatediff() -> Any:
    motion = diffusers.MotionAdapter(
        block_out_channels=(4, 8),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
    )
    return {
        **sd_video(),
        "unet": sd_unet(),
        "motion_adapter": motion,
        "feature_extractor": None,
        "image_encoder": None,
    }


def svd() -> Any:
    unet = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=96,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=8,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
        num_frames=14,
    )
    vae = image_vae(kind=diffusers.AutoencoderKLTemporalDecoder, channels=32)
    return {
        "vae": vae,
        "image_encoder": clip_vision(),
        "unet": unet,
        "scheduler": diffusers.EulerDiscreteScheduler(prediction_type="v_prediction", use_karras_sigmas=True),
        "feature_extractor": clip_images(),
    }


def cogvideox(channels: int = 4, **more: Any) -> Any:
    blocks = ("CogVideoXDownBlock3D",) * 4, ("CogVideoXUpBlock3D",) * 4
    vae = diffusers.AutoencoderKLCogVideoX(
        down_block_types=blocks[0],
        up_block_types=blocks[1],
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=channels,
        out_channels=4,
        time_embed_dim=4,
        text_embed_dim=8,
        num_layers=1,
        sample_width=90,
        sample_height=60,
        sample_frames=49,
        patch_size=2,
        max_text_seq_length=16,
        use_rotary_positional_embeddings=True,
        **more,
    )
    return {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": t5(),
        "tokenizer": tokenizer(),
        "scheduler": diffusers.CogVideoXDPMScheduler(),
    }


def ltx() -> Any:
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=8,
    )
    return {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": t5(),
        "tokenizer": tokenizer(),
        "scheduler": flow(),
    }


def hunyuan() -> Any:
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )
    return {
        "vae": hunyuan_vae(),
        "transformer": transformer,
        "text_encoder": llama(),
        "tokenizer": tokenizer(),
        "text_encoder_2": clip_text(),
        "tokenizer_2": tokenizer(),
        "scheduler": flow(),
    }


def mochi() -> Any:
    vae = diffusers.AutoencoderKLMochi(
        latent_channels=12,
        out_channels=3,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    transformer = diffusers.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        out_channels=None,
        qk_norm="rms_norm",
        text_embed_dim=8,
        time_embed_dim=4,
        activation_fn="swiglu",
        max_sequence_length=16,
    )
    return {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": t5(),
        "tokenizer": tokenizer(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    }


def allegro() -> Any:
    vae = diffusers.AutoencoderKLAllegro(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        layers_per_block=1,
        block_out_channels=(4, 4, 4, 4),
        norm_num_groups=2,
        sample_size=160,
    )
    transformer = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=160,
        sample_height=90,
        sample_frames=22,
        caption_channels=8,
    )
    return {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": t5(),
        "tokenizer": tokenizer(),
        "scheduler": diffusers.DDIMScheduler(),
    }


def latte() -> Any:
    transformer = diffusers.LatteTransformer3DModel(
        sample_size=64,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        caption_channels=8,
        in_channels=4,
        cross_attention_dim=8,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=16,
    )
    return {
        "vae": image_vae(up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2),
        "transformer": transformer,
        "text_encoder": t5(),
        "tokenizer": tokenizer(),
        "scheduler": diffusers.DDIMScheduler(),
    }


def sana() -> Any:
    transformer = diffusers.SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=8,
        mlp_ratio=2.0,
        patch_size=(1, 2, 2),
        sample_size=30,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    gemma = transformers.Gemma2Model(
        transformers.Gemma2Config(
            vocab_size=len(WORDS),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=4,
        )
    )
    return {
        "vae": wan_vae(),
        "transformer": transformer,
        "text_encoder": gemma,
        "tokenizer": tokenizer(),
        "scheduler": flow(),
    }


def skyreels(**more: Any) -> Any:
    transformer = wan_transformer(16, diffusers.SkyReelsV2Transformer3DModel, **more)
    scheduler = diffusers.UniPCMultistepScheduler(flow_shift=8.0, use_flow_sigmas=True)
    return {**wan_parts(), "transformer": transformer, "scheduler": scheduler}


def anyflow() -> Any:
    transformer = diffusers.AnyFlowTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
    )
    return {**wan_parts(), "transformer": transformer, "scheduler": diffusers.FlowMapEulerDiscreteScheduler()}


def helios() -> Any:
    transformer = diffusers.HeliosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=1,
        rope_dim=(4, 4, 4),
    )
    return {
        **wan_parts(),
        "transformer": transformer,
        "scheduler": diffusers.HeliosScheduler(stages=1, stage_range=[0, 1], gamma=1.0),
    }


def kandinsky() -> Any:
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=8,
        time_dim=16,
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(2, 2, 4),
        visual_cond=True,
    )
    return {
        "vae": hunyuan_vae(),
        "transformer": transformer,
        "text_encoder": qwen_vl(),
        "tokenizer": tokenizer(1024),
        "text_encoder_2": clip_text(),
        "tokenizer_2": tokenizer(),
        "scheduler": flow(),
    }


def hunyuan15() -> Any:
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1
    )
    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=8,
        image_embed_dim=8,
        rope_axes_dim=(2, 6, 8),
        task_type="t2v",
    )
    return {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": qwen_vl(transformers.Qwen2_5_VLTextModel),
        "tokenizer": tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": tokenizer(),
        "scheduler": flow(),
        "guider": diffusers.ClassifierFreeGuidance(guidance_scale=2.0),
    }


def easyanimate() -> Any:
    transformer = diffusers.EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        num_layers=1,
        mmdit_layers=1,
        time_embed_dim=4,
        text_embed_dim=16,
    )
    vae = diffusers.AutoencoderKLMagvit(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2
    )
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    )
    return {
        "vae": vae,
        "transformer": transformer,
        "text_encoder": bert,
        "tokenizer": tokenizer(),
        "scheduler": flow(),
    }


@dataclass(frozen=True)
class Tiny:
    """A pipeline to be saved.

    Attributes:
        family: as people call the model.
        kind: its class.
        parts: makes its parts.
        options: of the sampler, that it needs at this size.
        slow: whether its test is marked so.
    """

    family: str
    kind: str
    parts: Callable[[], dict[str, Any]]
    options: dict[str, str] = field(default_factory=dict)
    slow: bool = False

    def save(self, folder: Path) -> Path:
        """Save it with the same weights each time."""
        torch.manual_seed(0)
        kind = getattr(diffusers, self.kind)
        # A package that some pipelines cannot do without, and that the tests do not need.
        module = sys.modules[kind.__module__]
        if not hasattr(module, "ftfy"):
            module.ftfy = SimpleNamespace(fix_text=lambda text: text)
        kind(**self.parts()).save_pretrained(folder / self.kind)
        return folder / self.kind


_LLAMA_PROMPT = {"prompt_template": "{'template': '{}', 'crop_start': 0}"}
_SANA = {"use_resolution_binning": "false", "complex_human_instruction": "None"}
_WHOLE_TILE = {"native_height": "160", "native_width": "160", "vae_tiling": "true"}

PIPELINES = (
    Tiny("Allegro", "AllegroPipeline", allegro, _WHOLE_TILE),
    Tiny("AnimateDiff", "AnimateDiffPipeline", animatediff),
    Tiny("AnimateDiff", "AnimateDiffVideoToVideoPipeline", animatediff, slow=True),
    Tiny("AnyFlow", "AnyFlowPipeline", anyflow),
    Tiny("CogVideoX", "CogVideoXPipeline", cogvideox),
    Tiny("CogVideoX", "CogVideoXImageToVideoPipeline", lambda: cogvideox(8)),
    Tiny("CogVideoX", "CogVideoXVideoToVideoPipeline", cogvideox, slow=True),
    Tiny("EasyAnimate", "EasyAnimatePipeline", easyanimate, {"negative_prompt": "blurred"}),
    Tiny("Helios", "HeliosPipeline", helios),
    Tiny("HunyuanVideo", "HunyuanVideoPipeline", hunyuan, _LLAMA_PROMPT),
    Tiny("HunyuanVideo 1.5", "HunyuanVideo15Pipeline", hunyuan15),
    Tiny("Kandinsky 5", "Kandinsky5T2VPipeline", kandinsky),
    Tiny("Kandinsky 5", "Kandinsky5I2VPipeline", kandinsky, {"native_frames": "17"}, slow=True),
    Tiny("Latte", "LattePipeline", latte),
    Tiny("LTX-Video", "LTXPipeline", ltx),
    Tiny("LTX-Video", "LTXImageToVideoPipeline", ltx, slow=True),
    Tiny("LTX-Video", "LTXConditionPipeline", ltx),
    Tiny("Mochi", "MochiPipeline", mochi),
    Tiny("ModelScope", "TextToVideoSDPipeline", sd_video),
    Tiny("ModelScope", "VideoToVideoSDPipeline", sd_video, slow=True),
    Tiny("SANA-Video", "SanaVideoPipeline", sana, _SANA),
    Tiny("SkyReels-V2", "SkyReelsV2Pipeline", skyreels, slow=True),
    Tiny("SkyReels-V2", "SkyReelsV2DiffusionForcingPipeline", lambda: skyreels(inject_sample_info=True)),
    Tiny(
        "SkyReels-V2",
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        lambda: skyreels(inject_sample_info=True),
        slow=True,
    ),
    Tiny(
        "SkyReels-V2",
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        lambda: skyreels(inject_sample_info=True),
        {"overlap_history": "5"},
    ),
    Tiny("Stable Video Diffusion", "StableVideoDiffusionPipeline", svd),
    Tiny("Wan", "WanPipeline", wan_parts),
    Tiny("Wan", "WanImageToVideoPipeline", lambda: {**wan_parts(36), "image_encoder": None}),
    Tiny("Wan", "WanVideoToVideoPipeline", wan_parts, slow=True),
    Tiny("Wan", "WanVACEPipeline", wan_vace),
    Tiny("Wan", "LucyEditPipeline", lambda: wan_parts(32), slow=True),
)
