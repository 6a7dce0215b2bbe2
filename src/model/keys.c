/* The keys of config.json: no key that may change what a model computes is left out silently. */
#include "model/model.h"
#include <string.h>

/* Keys of any family that leave training, evaluation and generation as they are here: how the file was made, special
 * tokens (the tokenizer says them), how transformers generates and returns things, other heads, the dropout of the
 * backbone's own training, implementations of the same mathematics. */
static const char *const harmless[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "max_sequence_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    NULL,
};

static bool is_in(const char *const *names, const char *name)
{
    while (*names != NULL && strcmp(*names, name) != 0) names++;
    return *names != NULL;
}

/* null, false, {}, []: nothing is asked for. */
static bool asks_for_nothing(const cJSON *value)
{
    if (cJSON_IsNull(value) || cJSON_IsFalse(value)) return true;
    return (cJSON_IsObject(value) || cJSON_IsArray(value)) && value->child == NULL;
}

dt_status dt_model_check_keys(const dt_json *at, const char *const *known)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, at->node)
    {
        if (is_in(known, item->string) || is_in(harmless, item->string) || asks_for_nothing(item)) continue;
        return dt_json_fail(at, item->string,
                            "is not known, and may change what the model computes; if it does not, remove it");
    }
    return DT_OK;
}

dt_status dt_model_size(const dt_json *config, const char *key, int64_t *out)
{
    DT_TRY(dt_json_i64(config, key, out));
    if (*out < 1) return dt_json_fail(config, key, "%lld is not >= 1", (long long)*out);
    if (*out > DT_MODEL_SIZE_MAX)
        return dt_json_fail(config, key, "%lld is not <= %d", (long long)*out, DT_MODEL_SIZE_MAX);
    return DT_OK;
}
