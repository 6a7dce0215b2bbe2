/* GPT-2's alphabet of bytes: every byte written as one printable character, so that any text is text over 256 letters.
 */
#ifndef DT_DATA_BYTELEVEL_H
#define DT_DATA_BYTELEVEL_H

#include <stdint.h> // int32_t

enum { DT_BYTELEVEL_LETTERS = 324 }; /* letters are code points below this */

/** letter[b] is the letter of byte b: itself where it is printable Latin-1 and no space, else the next free one from
 *  U+0100 on (Radford et al. 2019, bytes_to_unicode). */
static inline void dt_bytelevel_alphabet(int32_t letter[256])
{
    int32_t next = 0x100;
    for (int b = 0; b < 256; b++) {
        int printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
        letter[b] = printable ? b : next++;
    }
}

#endif
