"""The transformers architectures of the zoo: tiny random configurations, and inputs for each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Callable[[int, int], dict[str, Tensor]]  # (batch size, seed) → keyword arguments

TEXT = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64}  # fmt: skip
GROUPED = TEXT | {"num_key_value_heads": 2, "pad_token_id": 0}
N_STYLE = {"vocab_size": 99, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64}
BART = {"vocab_size": 99, "d_model": 32, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
        "pad_token_id": 1, "decoder_start_token_id": 2}  # fmt: skip
T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 4,
      "decoder_start_token_id": 0}  # fmt: skip
IMAGE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48,
         "image_size": 32, "patch_size": 8}  # fmt: skip
AUDIO = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48,
         "conv_dim": (16, 16, 16), "conv_kernel": (8, 3, 3), "conv_stride": (4, 2, 2), "num_feat_extract_layers": 3,
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "mask_time_length": 2}  # fmt: skip


def text(batch: int, seed: int, *, length: int = 12) -> dict[str, Tensor]:
    """Token ids with padding at the end of every second row."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 90, (batch, length), generator=generator)
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[1::2, length - 3 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def tokens(batch: int, seed: int) -> dict[str, Tensor]:
    """Token ids alone."""
    return {"input_ids": text(batch, seed)["input_ids"]}


def encoder_decoder_text(batch: int, seed: int) -> dict[str, Tensor]:
    """Token ids for encoder and decoder."""
    return text(batch, seed) | {"decoder_input_ids": text(batch, seed + 100, length=7)["input_ids"]}


def image(batch: int, seed: int, *, size: int = 32, channels: int = 3) -> dict[str, Tensor]:
    """A square image."""
    generator = torch.Generator().manual_seed(seed)
    return {"pixel_values": torch.randn(batch, channels, size, size, generator=generator)}


def image64(batch: int, seed: int) -> dict[str, Tensor]:
    """A square image of 64 pixels."""
    return image(batch, seed, size=64)


def video(batch: int, seed: int) -> dict[str, Tensor]:
    """Four frames."""
    generator = torch.Generator().manual_seed(seed)
    return {"pixel_values": torch.randn(batch, 4, 3, 32, 32, generator=generator)}


def wave(batch: int, seed: int) -> dict[str, Tensor]:
    """Audio samples."""
    return {"input_values": torch.randn(batch, 400, generator=torch.Generator().manual_seed(seed))}


def image_and_text(batch: int, seed: int) -> dict[str, Tensor]:
    """An image and its description."""
    return text(batch, seed) | image(batch, seed)


def spectrogram(batch: int, seed: int, *, bins: int = 16, frames: int = 40) -> Tensor:
    """Random spectrograms (batch, bins, frames)."""
    return torch.randn(batch, bins, frames, generator=torch.Generator().manual_seed(seed))


def whisper(batch: int, seed: int) -> dict[str, Tensor]:
    """A spectrogram and decoder tokens."""
    return {"input_features": spectrogram(batch, seed), "decoder_input_ids": text(batch, seed, length=7)["input_ids"]}


def speech_to_text(batch: int, seed: int) -> dict[str, Tensor]:
    """Frames first: (batch, frames, bins)."""
    frames = spectrogram(batch, seed, bins=16, frames=40)
    return {"input_features": frames, "decoder_input_ids": text(batch, seed, length=7)["input_ids"]}


def spectrogram_image(batch: int, seed: int) -> dict[str, Tensor]:
    """A spectrogram with frames first, for models that take it as an image."""
    return {"input_values": spectrogram(batch, seed, bins=40, frames=16)}


def boxes(batch: int, seed: int) -> dict[str, Tensor]:
    """Token ids with bounding boxes on a page."""
    box = torch.tensor([1, 2, 3, 4]).expand(batch, 12, 4).contiguous()
    return text(batch, seed) | {"bbox": box}


def llava(batch: int, seed: int) -> dict[str, Tensor]:
    """An image, whose 16 patches are token 98 among the text tokens."""
    ids = text(batch, seed, length=24)["input_ids"]
    ids[:, 2:18] = 98
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | image(batch, seed)


def series(batch: int, seed: int) -> dict[str, Tensor]:
    """Several time series."""
    return {"past_values": torch.randn(batch, 32, 2, generator=torch.Generator().manual_seed(seed))}


def visual_features(batch: int, seed: int) -> dict[str, Tensor]:
    """Token ids with features and positions of detected objects."""
    generator = torch.Generator().manual_seed(seed)
    return text(batch, seed) | {
        "visual_feats": torch.randn(batch, 5, 16, generator=generator),
        "visual_pos": torch.rand(batch, 5, 4, generator=generator),
    }


def visual_words(batch: int, seed: int) -> dict[str, Tensor]:
    """Token ids with embeddings of image regions."""
    embeddings = torch.randn(batch, 5, 16, generator=torch.Generator().manual_seed(seed))
    ones = torch.ones(batch, 5, dtype=torch.long)
    return text(batch, seed) | {
        "visual_embeds": embeddings,
        "visual_attention_mask": ones,
        "visual_token_type_ids": ones,
    }


CLIP_TEXT = TEXT | {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
PAIR = {"text_config": CLIP_TEXT, "vision_config": IMAGE, "projection_dim": 16}

# model class → (configuration class, its arguments, inputs)
MODELS: dict[str, tuple[str, dict[str, Any], Inputs]] = {
    # encoders of text
    "BertForSequenceClassification": ("BertConfig", TEXT, text),
    "RobertaForSequenceClassification": ("RobertaConfig", TEXT, text),
    "DistilBertForSequenceClassification": (
        "DistilBertConfig", {"vocab_size": 99, "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48}, text),
    "AlbertForSequenceClassification": ("AlbertConfig", TEXT | {"embedding_size": 16}, text),
    "ElectraForSequenceClassification": ("ElectraConfig", TEXT | {"embedding_size": 16}, text),
    "DebertaForSequenceClassification": (
        "DebertaConfig", TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, text),
    "DebertaV2ForSequenceClassification": (
        "DebertaV2Config", TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, text),
    "MPNetForSequenceClassification": ("MPNetConfig", TEXT, text),
    "FNetForSequenceClassification": ("FNetConfig", TEXT, tokens),
    "FunnelForSequenceClassification": (
        "FunnelConfig", {"vocab_size": 99, "block_sizes": [1, 1, 1], "d_model": 32, "n_head": 4, "d_head": 8,
                         "d_inner": 48, "num_decoder_layers": 1}, text),
    "ConvBertForSequenceClassification": ("ConvBertConfig", TEXT | {"embedding_size": 16}, text),
    "SqueezeBertForSequenceClassification": ("SqueezeBertConfig", TEXT | {"embedding_size": 32}, text),
    "MobileBertForSequenceClassification": (
        "MobileBertConfig", TEXT | {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}, text),
    "LongformerForSequenceClassification": ("LongformerConfig", TEXT | {"attention_window": 4}, text),
    "BigBirdForSequenceClassification": ("BigBirdConfig", TEXT | {"attention_type": "original_full"}, text),
    "YosoForSequenceClassification": ("YosoConfig", TEXT | {"use_expectation": True}, text),
    "RoFormerForSequenceClassification": ("RoFormerConfig", TEXT, text),
    "ModernBertForSequenceClassification": (
        "ModernBertConfig", TEXT | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1,
                                    "sep_token_id": 2}, text),
    "XLNetForSequenceClassification": (
        "XLNetConfig", {"vocab_size": 99, "d_model": 32, "n_layer": 4, "n_head": 4, "d_inner": 48}, text),
    "XLMForSequenceClassification": ("XLMConfig", {"vocab_size": 99, "emb_dim": 32, "n_layers": 4, "n_heads": 4}, text),
    "LayoutLMForSequenceClassification": ("LayoutLMConfig", TEXT, boxes),
    "CanineForSequenceClassification": (
        "CanineConfig", TEXT | {"num_hash_buckets": 32, "downsampling_rate": 2, "local_transformer_stride": 4}, text),
    "ErnieForSequenceClassification": ("ErnieConfig", TEXT, text),
    "IBertForSequenceClassification": ("IBertConfig", TEXT, text),
    "RemBertForSequenceClassification": (
        "RemBertConfig", TEXT | {"input_embedding_size": 16, "output_embedding_size": 16}, text),
    "PerceiverForMaskedLM": (
        "PerceiverConfig", {"vocab_size": 99, "num_latents": 6, "d_latents": 16, "d_model": 16, "num_blocks": 1,
                            "num_self_attends_per_block": 3, "num_self_attention_heads": 2,
                            "num_cross_attention_heads": 2, "max_position_embeddings": 12,
                            "qk_channels": 16, "v_channels": 16}, text),
    # decoders of text
    "GPT2LMHeadModel": ("GPT2Config", N_STYLE, text),
    "GPT2ForSequenceClassification": ("GPT2Config", N_STYLE | {"pad_token_id": 0}, text),
    "GPTNeoForCausalLM": (
        "GPTNeoConfig", {"vocab_size": 99, "hidden_size": 32, "num_layers": 4, "num_heads": 4, "window_size": 4,
                         "attention_types": [[["global", "local"], 2]], "max_position_embeddings": 64}, text),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", TEXT, text),
    "GPTJForCausalLM": ("GPTJConfig", N_STYLE | {"rotary_dim": 4}, text),
    "CodeGenForCausalLM": ("CodeGenConfig", N_STYLE | {"rotary_dim": 4, "n_ctx": 64}, text),
    "OPTForCausalLM": (
        "OPTConfig", {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
                      "ffn_dim": 48, "max_position_embeddings": 64, "word_embed_proj_dim": 32}, text),
    "BloomForCausalLM": ("BloomConfig", {"vocab_size": 99, "hidden_size": 32, "n_layer": 4, "n_head": 4}, text),
    "LlamaForCausalLM": ("LlamaConfig", GROUPED, text),
    "MistralForCausalLM": ("MistralConfig", GROUPED | {"sliding_window": 6}, text),
    "MixtralForCausalLM": ("MixtralConfig", GROUPED | {"num_local_experts": 4}, text),
    "Qwen2ForCausalLM": ("Qwen2Config", GROUPED, text),
    "Qwen3ForCausalLM": ("Qwen3Config", GROUPED | {"head_dim": 8}, text),
    "GemmaForCausalLM": ("GemmaConfig", GROUPED | {"head_dim": 8}, text),
    "Gemma2ForCausalLM": ("Gemma2Config", GROUPED | {"head_dim": 8}, text),
    "PhiForCausalLM": ("PhiConfig", GROUPED, text),
    "Phi3ForCausalLM": ("Phi3Config", GROUPED, text),
    "FalconForCausalLM": (
        "FalconConfig", {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}, text),
    "CohereForCausalLM": ("CohereConfig", GROUPED, text),
    "OlmoForCausalLM": ("OlmoConfig", GROUPED, text),
    "StableLmForCausalLM": ("StableLmConfig", GROUPED, text),
    "Starcoder2ForCausalLM": ("Starcoder2Config", GROUPED, text),
    "MptForCausalLM": (
        "MptConfig", {"vocab_size": 99, "d_model": 32, "n_layers": 4, "n_heads": 4, "max_seq_len": 64}, text),
    "MambaForCausalLM": ("MambaConfig", {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 4}, tokens),
    "RwkvForCausalLM": (
        "RwkvConfig", {"vocab_size": 99, "hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 4},
        tokens),
    "XGLMForCausalLM": (
        "XGLMConfig", {"vocab_size": 99, "d_model": 32, "num_layers": 4, "attention_heads": 4, "ffn_dim": 48,
                       "max_position_embeddings": 64}, text),
    "CTRLForSequenceClassification": (
        "CTRLConfig", N_STYLE | {"dff": 48, "pad_token_id": 0}, text),
    "GraniteForCausalLM": ("GraniteConfig", GROUPED, text),
    # encoder and decoder
    "T5ForConditionalGeneration": ("T5Config", T5, encoder_decoder_text),
    "UMT5ForConditionalGeneration": ("UMT5Config", T5, encoder_decoder_text),
    "LongT5ForConditionalGeneration": ("LongT5Config", T5 | {"local_radius": 3}, encoder_decoder_text),
    "SwitchTransformersForConditionalGeneration": (
        "SwitchTransformersConfig", T5 | {"num_experts": 4, "num_sparse_encoder_layers": 1,
                                          "num_sparse_decoder_layers": 1}, encoder_decoder_text),
    "BartForConditionalGeneration": ("BartConfig", BART, encoder_decoder_text),
    "MBartForConditionalGeneration": ("MBartConfig", BART, encoder_decoder_text),
    "PegasusForConditionalGeneration": ("PegasusConfig", BART, encoder_decoder_text),
    "MarianMTModel": ("MarianConfig", BART, encoder_decoder_text),
    "BlenderbotForConditionalGeneration": ("BlenderbotConfig", BART, encoder_decoder_text),
    "M2M100ForConditionalGeneration": ("M2M100Config", BART, encoder_decoder_text),
    "LEDForConditionalGeneration": (
        "LEDConfig", BART | {"attention_window": 4, "max_encoder_position_embeddings": 64,
                             "max_decoder_position_embeddings": 64}, encoder_decoder_text),
    "ProphetNetForConditionalGeneration": (
        "ProphetNetConfig", {"vocab_size": 99, "hidden_size": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
                             "num_encoder_layers": 3, "num_decoder_layers": 3, "num_encoder_attention_heads": 4,
                             "num_decoder_attention_heads": 4, "max_position_embeddings": 64}, encoder_decoder_text),
    # vision
    "ViTForImageClassification": ("ViTConfig", IMAGE, image),
    "DeiTForImageClassification": ("DeiTConfig", IMAGE, image),
    "BeitForImageClassification": ("BeitConfig", IMAGE, image),
    "Data2VecVisionForImageClassification": ("Data2VecVisionConfig", IMAGE, image),
    "Dinov2ForImageClassification": ("Dinov2Config", IMAGE, image),
    "ViTMSNForImageClassification": ("ViTMSNConfig", IMAGE, image),
    "ViTMAEForPreTraining": (
        "ViTMAEConfig", IMAGE | {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 2,
                                 "decoder_num_attention_heads": 2, "decoder_intermediate_size": 24}, image),
    "SwinForImageClassification": (
        "SwinConfig", {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2],
                       "window_size": 4}, image),
    "Swinv2ForImageClassification": (
        "Swinv2Config", {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2],
                         "window_size": 4}, image),
    "ConvNextForImageClassification": (
        "ConvNextConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1]}, image),
    "ConvNextV2ForImageClassification": (
        "ConvNextV2Config", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1]}, image),
    "ResNetForImageClassification": (
        "ResNetConfig", {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 2, 1]}, image),
    "RegNetForImageClassification": (
        "RegNetConfig", {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 2, 1],
                         "groups_width": 8}, image),
    "BitForImageClassification": (
        "BitConfig", {"embedding_size": 8, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 2, 1],
                      "num_groups": 4}, image),
    "SegformerForSemanticSegmentation": (
        "SegformerConfig", {"hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 2, 2, 2],
                            "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}, image64),
    "MobileViTForImageClassification": (
        "MobileViTConfig", {"image_size": 64, "hidden_sizes": [16, 24, 32],
                            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]}, image64),
    "MobileNetV2ForImageClassification": ("MobileNetV2Config", {"image_size": 32, "depth_multiplier": 0.25}, image),
    "PoolFormerForImageClassification": (
        "PoolFormerConfig", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 2, 1]}, image),
    "PvtForImageClassification": (
        "PvtConfig", {"image_size": 64, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1],
                      "num_attention_heads": [1, 2, 2, 2]}, image64),
    "HieraForImageClassification": (
        "HieraConfig", {"embed_dim": 8, "image_size": [32, 32], "patch_stride": [4, 4], "patch_kernel": [7, 7],
                        "depths": [1, 1, 2], "num_heads": [1, 2, 2], "query_stride": [2, 2],
                        "masked_unit_size": [4, 4], "num_query_pool": 1}, image),
    "YolosForObjectDetection": ("YolosConfig", IMAGE | {"num_detection_tokens": 4, "image_size": [32, 32]}, image),
    "DPTForSemanticSegmentation": (
        "DPTConfig", IMAGE | {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16],
                              "fusion_hidden_size": 8}, image),
    "TimesformerForVideoClassification": ("TimesformerConfig", IMAGE | {"num_frames": 4}, video),
    "VideoMAEForVideoClassification": ("VideoMAEConfig", IMAGE | {"num_frames": 4}, video),
    "VivitForVideoClassification": (
        "VivitConfig", IMAGE | {"num_frames": 4, "tubelet_size": [2, 8, 8]}, video),
    # audio
    "Wav2Vec2ForCTC": ("Wav2Vec2Config", AUDIO, wave),
    "HubertForSequenceClassification": ("HubertConfig", AUDIO, wave),
    "WavLMForSequenceClassification": ("WavLMConfig", AUDIO, wave),
    "UniSpeechForCTC": ("UniSpeechConfig", AUDIO | {"num_codevectors_per_group": 8, "codevector_dim": 8}, wave),
    "Data2VecAudioForCTC": ("Data2VecAudioConfig", AUDIO | {"conv_pos_kernel_size": 3}, wave),
    "SEWForCTC": ("SEWConfig", AUDIO | {"squeeze_factor": 2}, wave),
    "WhisperForConditionalGeneration": (
        "WhisperConfig", BART | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 16}, whisper),
    "Speech2TextForConditionalGeneration": (
        "Speech2TextConfig", BART | {"input_feat_per_channel": 40, "conv_channels": 32, "max_source_positions": 64,
                                     "max_target_positions": 16}, speech_to_text),
    "ASTForAudioClassification": (
        "ASTConfig", {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48,
                      "patch_size": 8, "frequency_stride": 8, "time_stride": 8, "max_length": 40,
                      "num_mel_bins": 16}, spectrogram_image),
    # multimodal
    "CLIPModel": ("CLIPConfig", PAIR, image_and_text),
    "SiglipModel": ("SiglipConfig", PAIR, image_and_text),
    "ChineseCLIPModel": ("ChineseCLIPConfig", PAIR, image_and_text),
    "CLIPSegForImageSegmentation": (
        "CLIPSegConfig", PAIR | {"extract_layers": [1, 2], "reduce_dim": 16, "decoder_num_attention_heads": 2,
                                 "decoder_intermediate_size": 24}, image_and_text),
    "ViltForQuestionAnswering": ("ViltConfig", TEXT | {"image_size": 32, "patch_size": 8, "num_labels": 3},
                                 image_and_text),
    "BlipForImageTextRetrieval": (
        "BlipConfig", {"text_config": TEXT | {"encoder_hidden_size": 32}, "vision_config": IMAGE,
                       "projection_dim": 16, "image_text_hidden_size": 16}, image_and_text),
    "GitForCausalLM": ("GitConfig", TEXT | {"vision_config": IMAGE}, image_and_text),
    "LlavaForConditionalGeneration": (
        "LlavaConfig", {"text_config": GROUPED | {"model_type": "llama"}, "image_token_index": 98,
                        "vision_config": IMAGE | {"model_type": "clip_vision_model", "projection_dim": 16},
                        "vision_feature_layer": -1}, llava),
    "LxmertModel": (
        "LxmertConfig", TEXT | {"l_layers": 2, "x_layers": 2, "r_layers": 1, "visual_feat_dim": 16}, visual_features),
    "VisualBertModel": ("VisualBertConfig", TEXT | {"visual_embedding_dim": 16}, visual_words),
    "PatchTSTForRegression": (
        "PatchTSTConfig", {"num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8,
                           "d_model": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "ffn_dim": 24}, series),
}  # fmt: skip


def build(name: str) -> tuple[nn.Module, Callable[[int, int], tuple[tuple, dict[str, Tensor]]]]:
    """A model with random weights, and a function (batch size, seed) → its arguments."""
    import transformers

    transformers.logging.set_verbosity_error()
    config_name, options, inputs = MODELS[name]
    config = getattr(transformers, config_name)(**options)
    for part in (config, *(vars(config)[key] for key in vars(config) if key.endswith("_config"))):
        if getattr(part, "use_cache", False):
            part.use_cache = False
    return getattr(transformers, name)(config), lambda batch, seed: ((), inputs(batch, seed))
