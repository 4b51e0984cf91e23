"""Grounding DINO, SAM 2 and SAM 3 of a few thousand random weights, in the files that transformers reads."""

import torch
import transformers

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "ball", "blue", "box", "car"]


def write_detector(folder):
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=8,
            depths=[1] * 4,
            num_heads=[1] * 4,
            window_size=4,
            out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        max_text_len=32,
    )
    torch.manual_seed(0)
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def write_tracker(folder):
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig
    from transformers.models.sam2_video import configuration_sam2_video as parts

    vision = transformers.Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(
            image_size=[64, 64],
            hidden_size=8,
            blocks_per_stage=[1, 1, 2, 1],
            embed_dim_per_stage=[8, 16, 32, 64],
            num_attention_heads_per_stage=[1] * 4,
            window_size_per_stage=[4] * 4,
            global_attention_blocks=[3],
        ),
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=128,
    )
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=parts.Sam2VideoPromptEncoderConfig(hidden_size=128, image_size=64),
        mask_decoder_config=parts.Sam2VideoMaskDecoderConfig(
            hidden_size=128, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
        image_size=64,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64,
        num_maskmem=3,
    )
    torch.manual_seed(0)
    transformers.Sam2VideoModel(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    images = transformers.Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16})
    transformers.Sam2VideoProcessor(images, transformers.Sam2VideoVideoProcessor(size=size)).save_pretrained(folder)


def write_sam3(folder):
    from transformers.models.sam3_tracker_video import configuration_sam3_tracker_video as parts

    def vision():
        backbone = {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
            "window_size": 2,
            "global_attn_indexes": [1],
            "pretrain_image_size": 28,
        }
        sizes = [[16, 16], [8, 8], [4, 4]]
        return {
            "model_type": "sam3_vision_model",
            "backbone_config": backbone,
            "fpn_hidden_size": 128,
            "backbone_feature_sizes": sizes,
        }

    small = {"hidden_size": 128, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    detector = {
        "model_type": "sam3",
        "vision_config": vision(),
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "projection_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
        },
        "geometry_encoder_config": small,
        "detr_encoder_config": small,
        "detr_decoder_config": {**small, "num_layers": 2, "num_queries": 2},
        "mask_decoder_config": {"hidden_size": 128, "num_attention_heads": 2},
    }
    tracker = transformers.Sam3TrackerVideoConfig(
        vision_config=vision(),
        prompt_encoder_config=parts.Sam3TrackerVideoPromptEncoderConfig(hidden_size=128, image_size=56, patch_size=14),
        mask_decoder_config=parts.Sam3TrackerVideoMaskDecoderConfig(
            hidden_size=128, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64,
        num_maskmem=3,
    )
    config = transformers.Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=16,
        score_threshold_detection=0.01,  # random weights are sure of nothing
        new_det_thresh=0.01,
        hotstart_delay=0,
        hotstart_unmatch_thresh=0,
        hotstart_dup_thresh=0,
    )
    config.image_size = 56
    torch.manual_seed(0)
    transformers.Sam3VideoModel(config).save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = transformers.CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[])
    size = {"height": 56, "width": 56}
    images = transformers.Sam3ImageProcessor(size=size, mask_size={"height": 16, "width": 16})
    videos = transformers.Sam2VideoVideoProcessor(size=size)
    transformers.Sam3VideoProcessor(images, videos, tokenizer).save_pretrained(folder)
