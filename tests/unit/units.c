/* Numbers as people read them. */
#include "base/units.h"
#include <criterion/criterion.h>

static void check_count(int64_t n, const char *expected)
{
    cr_expect_str_eq(dt_words_count(n).text, expected);
}

static void check_scaled(double n, const char *expected)
{
    cr_expect_str_eq(dt_words_scaled(n, "B").text, expected);
}

Test(units, counts_have_commas_between_groups_of_three)
{
    check_count(0, "0");
    check_count(7, "7");
    check_count(999, "999");
    check_count(1000, "1,000");
    check_count(123456, "123,456");
    check_count(1234567, "1,234,567");
    check_count(-12, "-12");
    check_count(-123, "-123");
    check_count(-1234, "-1,234");
    check_count(INT64_MAX, "9,223,372,036,854,775,807");
    check_count(INT64_MIN, "-9,223,372,036,854,775,808");
}

Test(units, scaled_numbers_have_about_three_digits)
{
    check_scaled(0, "0 B");
    check_scaled(999, "999 B");
    check_scaled(1000, "1 kB");
    check_scaled(1536, "1.5 kB");
    check_scaled(12345, "12.3 kB");
    check_scaled(123456, "123 kB");
    check_scaled(999499, "999 kB");
    check_scaled(999500, "1.0 MB");
    check_scaled(81920, "81.9 kB");
    check_scaled(3e6, "3 MB");
    check_scaled(140.4e9, "140 GB");
    check_scaled(2.5e15, "2.5 PB");
    check_scaled(1e21, "1000 EB");
    check_scaled(-1500, "-1.5 kB");
}
