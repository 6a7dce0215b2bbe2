/* Rotary positions as config.json describes them: the inverse frequencies, scaled. */
#include "model/model.h"
#include <math.h>
#include <string.h>

/* How the frequencies change from those of the original context. */
typedef struct scaling {
    const char *type;
    double factor, low, high, original; /* low, high: rotations over the original context */
} scaling;

static dt_status read_scaling(const dt_json *at, scaling *s)
{
    const char *old_key = "default";
    double partial = 1;
    DT_TRY(dt_json_string_or(at, "type", "default", &old_key));
    DT_TRY(dt_json_string_or(at, "rope_type", old_key, &s->type));
    bool llama3 = strcmp(s->type, "llama3") == 0, linear = strcmp(s->type, "linear") == 0;
    if (!llama3 && !linear && strcmp(s->type, "default") != 0)
        return dt_json_fail(at, "rope_type", "%s is not known; known: default, linear, llama3", s->type);
    if (llama3 || linear) DT_TRY(dt_json_f64(at, "factor", &s->factor));
    if (llama3) {
        DT_TRY(dt_json_f64(at, "low_freq_factor", &s->low));
        DT_TRY(dt_json_f64(at, "high_freq_factor", &s->high));
        DT_TRY(dt_json_f64(at, "original_max_position_embeddings", &s->original));
        if (!(s->original > 0) || !(s->high > s->low))
            return dt_json_fail(at, NULL,
                                "original_max_position_embeddings must be > 0 and high_freq_factor > low_freq_factor");
    }
    if (!(s->factor > 0)) return dt_json_fail(at, "factor", "%g is not > 0", s->factor);
    DT_TRY(dt_json_f64_or(at, "partial_rotary_factor", 1, &partial));
    if (partial != 1) return dt_json_fail(at, "partial_rotary_factor", "%g is not 1", partial);
    return dt_model_check_keys(at, (const char *const[]){"rope_theta", "rope_type", "type", "factor", "low_freq_factor",
                                                         "high_freq_factor", "original_max_position_embeddings",
                                                         "partial_rotary_factor", NULL});
}

/* Type "linear" divides all frequencies by the factor; "llama3" divides those of long wavelengths, keeps those of short
 * ones, and blends between (Llama 3 herd of models, 2024). */
static double scaled(double freq, const scaling *s)
{
    if (strcmp(s->type, "default") == 0) return freq;
    if (strcmp(s->type, "linear") == 0) return freq / s->factor;
    double turns = s->original * freq / (2.0 * acos(-1.0));
    double keep = fmin(fmax((turns - s->low) / (s->high - s->low), 0.0), 1.0);
    return (1.0 - keep) * freq / s->factor + keep * freq;
}

dt_status dt_model_rope(const dt_json *config, int64_t head_dim, dt_region *region, float **out)
{
    /* Newer files say all of it in rope_parameters, older ones in rope_theta and rope_scaling. */
    bool newer = dt_json_has(config, "rope_parameters");
    const char *key = newer ? "rope_parameters" : "rope_scaling";
    dt_json rope = *config;
    scaling s = {"default", 1, 1, 4, 8192};
    double theta = 0;
    if (dt_json_has(config, key)) {
        dt_json object;
        DT_TRY(dt_json_object(config, key, &object));
        DT_TRY(read_scaling(&object, &s));
        if (newer) rope = object;
    }
    DT_TRY(dt_json_f64_or(&rope, "rope_theta", 10000.0, &theta));
    if (!(theta > 0)) return dt_json_fail(&rope, "rope_theta", "%g is not > 0", theta);
    float *f = dt_region_alloc(region, sizeof *f * (size_t)(head_dim / 2));
    if (f == NULL) return dt_fail(DT_ERR_MEMORY, "out of memory");
    for (int64_t j = 0; j < head_dim / 2; j++)
        f[j] = (float)scaled(pow(theta, -2.0 * (double)j / (double)head_dim), &s);
    *out = f;
    return DT_OK;
}
