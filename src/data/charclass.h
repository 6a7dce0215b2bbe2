/* Characters as the `tokenizers` package sorts and lowers them. Its tables are those of older and newer Unicode
 * versions than utf8proc's (8 and 9 for marks and punctuation, 17 for case); where they differ, the package's answer
 * counts: backbones were trained on its ids. */
#ifndef DT_DATA_CHARCLASS_H
#define DT_DATA_CHARCLASS_H

#include "data/text.h" // dt_text

int dt_char_is_punctuation(int32_t code_point);     /* P, and all of ASCII's that is no letter, digit or space */
int dt_char_is_combining_mark(int32_t code_point);  /* M */
int dt_char_is_nonspacing_mark(int32_t code_point); /* Mn */
int dt_char_is_control(int32_t code_point);         /* Cc, Cf, Co; not tab and the two line ends */
int dt_char_is_chinese(int32_t code_point);         /* an ideograph (Devlin et al. 2018: each is a word) */

/** Appends the lower case of a character, which may be two: U+0130 becomes i and U+0307. */
dt_status dt_char_append_lower(dt_text *text, int32_t code_point) DT_WARN_UNUSED;

#endif
