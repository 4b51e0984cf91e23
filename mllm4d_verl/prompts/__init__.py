"""Turn a question row into chat messages by a named Jinja template."""

from mllm4d_verl.prompts.render import (
    DATASET_TEMPLATE,
    list_templates,
    load_template,
    render_conversation,
    render_messages,
)

__all__ = ["DATASET_TEMPLATE", "list_templates", "load_template", "render_conversation", "render_messages"]
