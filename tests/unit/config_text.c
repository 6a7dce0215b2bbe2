/* The text format: agreement with protoc, what is read, what is printed, what is refused. */
#include "config/config.h"
#include "config/text.h"
#include "every.pb-c.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads text[bytes] as an every.All called "t". */
static dt_status read_bytes(const char *data, size_t bytes, Every__All **out)
{
    dt_places places = {0};
    dt_text text = {.places = &places};
    ProtobufCMessage *message;
    cr_assert_eq(dt_message_new(&every__all__descriptor, &message), DT_OK);
    dt_status st = dt_lexer_start(&text.lexer, (dt_place){"t", 1, 1}, &text.path, data, bytes);
    if (st == DT_OK) st = dt_text_read(&text, message);
    if (st != DT_OK) protobuf_c_message_free_unpacked(message, NULL);
    *out = st == DT_OK ? (Every__All *)message : NULL;
    dt_places_free(&places);
    return st;
}

static Every__All *read_all(const char *text)
{
    Every__All *all;
    cr_assert_eq(read_bytes(text, strlen(text), &all), DT_OK, "%s: %s", text, dt_error_text());
    return all;
}

static void expect_error(const char *text, const char *message)
{
    Every__All *all;
    cr_expect_eq(read_bytes(text, strlen(text), &all), DT_ERR_CONFIG, "was read: %s", text);
    cr_expect_str_eq(dt_error_text(), message, "%s: %s", text, dt_error_text());
}

static void release(Every__All *all)
{
    every__all__free_unpacked(all, NULL);
}

/* What protoc makes of the text; false if it refuses it. */
static int protoc_encode(const char *text, char *out, size_t room, size_t *bytes)
{
    char input[] = "/tmp/dtrain-text-XXXXXX", command[1024];
    int fd = mkstemp(input);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    snprintf(command, sizeof command, "protoc --encode=every.All -I%s/tests/unit every.proto <%s 2>/dev/null",
             DT_SOURCE_DIR, input);
    FILE *pipe = popen(command, "r");
    *bytes = fread(out, 1, room, pipe);
    int status = pclose(pipe);
    unlink(input);
    return status == 0;
}

static const char *const good[] = {
    "",
    "# nothing\n",
    "i32: 1",
    "i32: -2147483648 s32: -5 sf32: -0x7f i64: -9223372036854775808 s64: 9223372036854775807 sf64: - 017",
    "u32: 4294967295 f32: 0xFFFFFFFF u64: 18446744073709551615 f64: 01777777777777777777777",
    "i32: 2147483647, s32: 0; sf32: 00",
    "real: 1.5 wide: .5",
    "real: 1e3 wide: 5.",
    "real: 3.4028234e38 wide: 1E-300",
    "real: 2f wide: 1.25F",
    "real: inf wide: -inf",
    "real: -Infinity wide: nan",
    "real: 7 wide: -8",
    "wide: 0.1 real: 0.1",
    "wide: 1e+5 real: 1e-50",
    "flag: true",
    "flag: false",
    "flag: t",
    "flag: f",
    "flag: True",
    "flag: False",
    "flag: 1",
    "flag: 0",
    "color: RED",
    "color: DEEP_BLUE",
    "color: NEGATIVE",
    "color: 7",
    "color: -3",
    "color: 0x1",
    "text: \"plain\"",
    "text: 'single \"quotes\"'",
    "text: \"two\" ' parts' \"\"\n# and a comment\n\" more\"",
    "text: \"\\a\\b\\f\\n\\r\\t\\v\\\\\\'\\\"\\?\"",
    "text: \"\\101\\60\\x41\\x5a\\x9\"",
    "text: \"so\"",
    "text: ''",
    "text: \"\\u00e9\\U0001F600\\ud83d\\ude00 \xc3\xa9\"",
    "blob: \"\\000\\377\\0001\"",
    "blob: ''",
    "blobs: 'a' 'b' blobs: '\\000'",
    "child { i32: 1 }",
    "child: { i32: 1 }",
    "child < i32: 1 >",
    "child:<i32:1>",
    "child{}",
    "child { child { child { i32: 3 } } }",
    "ints: 1 ints: 2 ints: 3",
    "ints: [1, 2, 3]",
    "ints: [] ints: [4] ints: 5",
    "reals: [1, -inf, .5]",
    "flags: [true, false]",
    "colors: [RED, 7]",
    "texts: ['a' 'b', \"c\"]",
    "children { i32: 1 } children: [{}, <i32: 2>]",
    "children [{ ints: [1] }]",
    "number: 0",
    "number: 5",
    "word: ''",
    "word: 'w'",
    "tree { number: 1 }",
    "must { n: 0 s: '' }",
    "must { s: 'x', n: -1; }",
    "i32:1i64:2" /* protoc refuses it: no space behind the number */,
    "\t\v\f\r\n i32 \n : \n # c\n 5",
};

Test(config_text, encodes_as_protoc_does)
{
    if (system("command -v protoc >/dev/null 2>&1") != 0) cr_skip_test("protoc is not here: not compared");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char theirs[4096];
        size_t bytes;
        unsigned char *ours;
        size_t our_bytes;
        Every__All *all;
        if (!protoc_encode(good[i], theirs, sizeof theirs, &bytes)) {
            cr_expect_eq(read_bytes(good[i], strlen(good[i]), &all), DT_ERR_CONFIG, "protoc refuses: %s", good[i]);
            continue;
        }
        all = read_all(good[i]);
        cr_assert_eq(dt_config_pack(&all->base, &ours, &our_bytes), DT_OK);
        cr_expect(bytes == our_bytes && memcmp(theirs, ours, bytes) == 0, "%s", good[i]);
        free(ours);
        release(all);
    }
}

Test(config_text, prints_what_reads_back_the_same)
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        Every__All *all, *again;
        if (read_bytes(good[i], strlen(good[i]), &all) != DT_OK) continue;
        char *text;
        unsigned char *first, *second;
        size_t n, m;
        cr_assert_eq(dt_config_print(&all->base, 0, &text), DT_OK);
        again = read_all(text);
        cr_assert_eq(dt_config_pack(&all->base, &first, &n), DT_OK);
        cr_assert_eq(dt_config_pack(&again->base, &second, &m), DT_OK);
        cr_expect(n == m && memcmp(first, second, n) == 0, "%s became %s", good[i], text);
        free(first);
        free(second);
        free(text);
        release(all);
        release(again);
    }
}

Test(config_text, prints_the_standard_layout)
{
    Every__All *all =
        read_all("wide: 1e-3 real: 0.1 i32: -7 flag: false color: NEGATIVE text: 'a\"\\n\\001\xc3\xa9\\377'"
                 "blob: '\\000' children { texts: ['x', 'y'] } children {} number: 0");
    char *text;
    cr_assert_eq(dt_config_print(&all->base, 0, &text), DT_OK);
    cr_expect_str_eq(text, "i32: -7\nreal: 0.1\nwide: 0.001\nflag: false\ncolor: NEGATIVE\n"
                           "text: \"a\\\"\\n\\001\xc3\xa9\\377\"\nblob: \"\\000\"\n"
                           "children {\n  texts: \"x\"\n  texts: \"y\"\n}\nchildren {\n}\nnumber: 0\n");
    free(text);
    release(all);
}

Test(config_text, prints_defaults_when_asked_and_never_makes_any_up)
{
    Every__All *all = read_all("i32: 1 color: RED");
    char *text;
    cr_assert_eq(dt_config_print(&all->base, 1, &text), DT_OK);
    cr_expect_str_eq(text, "i32: 1\nwide: 2.5\nflag: true\ncolor: RED\ntext: \"so\"\n");
    free(text);
    release(all);
}

Test(config_text, prints_every_double_and_float_so_that_it_reads_back_the_same_bits)
{
    const double wide[] = {0.1,      1.0 / 3,  5e-324, 1.7976931348623157e308, -0.0, 123456789012345678.0,
                           INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        Every__All one = EVERY__ALL__INIT;
        one.has_wide = one.has_real = 1;
        one.wide = wide[i];
        one.real = i == 3 ? 3.4028235e38f : i == 5 ? 16777217.0f : (float)wide[i];
        char *text;
        cr_assert_eq(dt_config_print(&one.base, 0, &text), DT_OK);
        Every__All *back = read_all(text);
        cr_expect(memcmp(&back->wide, &one.wide, 8) == 0 && memcmp(&back->real, &one.real, 4) == 0, "%s", text);
        free(text);
        release(back);
    }
}

Test(config_text, absent_fields_have_their_defaults)
{
    Every__All *all = read_all("");
    cr_expect(!all->has_wide && all->wide == 2.5 && all->flag == 1 && all->color == EVERY__COLOR__GREEN);
    cr_expect_str_eq(all->text, "so");
    cr_expect(all->child == NULL && all->n_ints == 0 && all->choice_case == EVERY__ALL__CHOICE__NOT_SET);
    release(all);
}

Test(config_text, skips_a_byte_order_mark)
{
    Every__All *all = read_all("\xef\xbb\xbfi32: 4");
    cr_expect_eq(all->i32, 4);
    release(all);
}

Test(config_text, errors_of_syntax)
{
    expect_error("i32 1", "t:1:5: i32: expected \":\", not 1");
    expect_error("i32", "t:1:4: i32: expected \":\", not the end");
    expect_error("child: 5", "t:1:8: child: expected \"{\", not 5");
    expect_error("child {\n i32: 1\n", "t:3:1: child: expected \"}\", not the end");
    expect_error("child { i32: 1 >", "t:1:16: child: expected the name of a field, not \">\"");
    expect_error("child < i32: 1 }", "t:1:16: child: expected the name of a field, not \"}\"");
    expect_error("}", "t:1:1: expected the name of a field, not \"}\"");
    expect_error("\"i32\": 1", "t:1:1: expected the name of a field, not \"i32\"");
    expect_error("[some.extension]: 1", "t:1:1: expected the name of a field, not \"[\"");
    expect_error("\n  \xc3\xa9", "t:2:3: expected the name of a field, not \"\xc3\xa9\"");
    expect_error("i32: 1,, i64: 2", "t:1:8: expected the name of a field, not \",\"");
    expect_error("ints: [1 2]", "t:1:10: ints: expected \",\", not 2");
    expect_error("ints: [1,]", "t:1:10: ints[1]: \"]\" is not an int32 (-2147483648..2147483647)");
    expect_error("ints: [1", "t:1:9: ints: expected \",\", not the end");
    expect_error("ints: [[1]]", "t:1:8: ints[0]: \"[\" is not an int32 (-2147483648..2147483647)");
    expect_error("i32: [1]", "t:1:6: i32: \"[\" is not an int32 (-2147483648..2147483647)");
    expect_error("child [{}]", "t:1:7: child: expected \"{\", not \"[\"");
}

Test(config_text, errors_of_names_give_the_nearest)
{
    expect_error("child {\n  i23: 1 }", "t:2:3: child: All has no field \"i23\"; did you mean \"i32\"?");
    expect_error("children {} children { Colour: RED }",
                 "t:1:24: children[1]: All has no field \"Colour\"; did you mean \"color\"?");
    expect_error("must { xyzzy: 1 }", "t:1:8: must: Must has no field \"xyzzy\", only: n, s");
    expect_error("color: DEEPBLUE",
                 "t:1:8: color: DEEPBLUE is not one of NEGATIVE, RED, GREEN, DEEP_BLUE; did you mean "
                 "DEEP_BLUE?");
    expect_error("color: 2", "t:1:8: color: 2 is not one of NEGATIVE, RED, GREEN, DEEP_BLUE");
    expect_error("color: -7", "t:1:8: color: -7 is not one of NEGATIVE, RED, GREEN, DEEP_BLUE");
    expect_error("color: \"RED\"", "t:1:8: color: \"RED\" is not one of NEGATIVE, RED, GREEN, DEEP_BLUE");
    expect_error("color: -RED", "t:1:8: color: -RED is not one of NEGATIVE, RED, GREEN, DEEP_BLUE; did you mean RED?");
}

Test(config_text, errors_of_numbers)
{
    expect_error("i32: 2147483648", "t:1:6: i32: 2147483648 is not an int32 (-2147483648..2147483647)");
    expect_error("i32: - 2147483649", "t:1:6: i32: -2147483649 is not an int32 (-2147483648..2147483647)");
    expect_error("s32: 1e3", "t:1:6: s32: 1e3 is not a sint32 (-2147483648..2147483647)");
    expect_error("i64: 9223372036854775808",
                 "t:1:6: i64: 9223372036854775808 is not an int64 (-9223372036854775808..9223372036854775807)");
    expect_error("i64: -9223372036854775809",
                 "t:1:6: i64: -9223372036854775809 is not an int64 (-9223372036854775808..9223372036854775807)");
    expect_error("u64: 18446744073709551616",
                 "t:1:6: u64: 18446744073709551616 is not a uint64 (0..18446744073709551615)");
    expect_error("u32: -1", "t:1:6: u32: -1 is not a uint32 (0..4294967295)");
    expect_error("u32: 4294967296", "t:1:6: u32: 4294967296 is not a uint32 (0..4294967295)");
    expect_error("i32: many", "t:1:6: i32: many is not an int32 (-2147483648..2147483647)");
    expect_error("i32: }", "t:1:6: i32: \"}\" is not an int32 (-2147483648..2147483647)");
    expect_error("i32:", "t:1:5: i32: the end is not an int32 (-2147483648..2147483647)");
    expect_error("i32: 08", "t:1:6: i32: 08 is not a number");
    expect_error("i32: 0x", "t:1:6: i32: 0x is not a number");
    expect_error("i32: 0xfg", "t:1:6: i32: 0xfg is not a number");
    expect_error("i32: 12abc", "t:1:6: i32: 12abc is not a number");
    expect_error("wide: 1.2.3", "t:1:7: wide: 1.2.3 is not a number");
    expect_error("wide: 1e", "t:1:7: wide: 1e is not a number");
    expect_error("wide: 0x10", "t:1:7: wide: 0x10 is not a decimal number");
    expect_error("wide: x", "t:1:7: wide: x is not a decimal number");
    expect_error("wide: \"1\"", "t:1:7: wide: \"1\" is not a decimal number");
    expect_error("wide: 1e999", "t:1:7: wide: 1e999 is not within the range of a double");
    expect_error("real: -1e39", "t:1:7: real: -1e39 is not within the range of a float");
    expect_error("flag: 2", "t:1:7: flag: 2 is not true or false");
    expect_error("flag: -1", "t:1:7: flag: -1 is not true or false");
    expect_error("flag: yes", "t:1:7: flag: yes is not true or false");
}

Test(config_text, errors_of_strings)
{
    expect_error("text: 5", "t:1:7: text: 5 is not a string in quotes");
    expect_error("text: bare", "t:1:7: text: bare is not a string in quotes");
    expect_error("text: \"ab", "t:1:7: text: the string that starts here has no closing \" on its line");
    expect_error("text: 'ab\n'", "t:1:7: text: the string that starts here has no closing ' on its line");
    expect_error("text: 'ab\\\n'", "t:1:7: text: the string that starts here has no closing ' on its line");
    expect_error("text: 'ab\\'", "t:1:7: text: the string that starts here has no closing ' on its line");
    expect_error("text: '\\", "t:1:7: text: the string that starts here has no closing ' on its line");
    expect_error("text: '\xc3\xa9\\q'", "t:1:9: text: \\q is not an escape");
    expect_error("text: '\\X41'", "t:1:8: text: \\X is not an escape");
    expect_error("text: 'a' 'b\\x'", "t:1:13: text: \\x is not an escape");
    expect_error("text: '\\400'", "t:1:8: text: \\4 is not an escape");
    expect_error("text: '\\ud800'", "t:1:8: text: \\u is not an escape");
    expect_error("text: '\\udc00\\ud800'", "t:1:8: text: \\u is not an escape");
    expect_error("text: '\\u12'", "t:1:8: text: \\u is not an escape");
    expect_error("text: '\\U00110000'", "t:1:8: text: \\U is not an escape");
    expect_error("text: 'a\\000'", "t:1:7: text: a string cannot hold a NUL byte");
    expect_error("texts: 'a' texts: ['b', 'c\\0']", "t:1:25: texts[2]: a string cannot hold a NUL byte");
}

Test(config_text, errors_of_fields_given_twice)
{
    expect_error("i32: 0\n i64: 1\n  i32: 0", "t:3:3: i32: given twice, first at 1:6");
    expect_error("child {} child {}", "t:1:10: child: given twice, first at 1:1");
    expect_error("text: 'so'\ntext: 'so'", "t:2:1: text: given twice, first at 1:7");
    expect_error("child { number: 0\n word: 'x' }",
                 "t:2:2: child.word: child.number is given at 1:17; only one of them can be");
    expect_error("tree { } number: 1", "t:1:10: number: tree is given at 1:1; only one of them can be");
    expect_error("number: 1 number: 1", "t:1:11: number: given twice, first at 1:9");
    expect_error("must { n: 1 s: 'a' n: 1 }", "t:1:20: must.n: given twice, first at 1:11");
    expect_error("must { n: 1 }", "t:1:13: must.s: required, but not given");
    expect_error("must { s: '' }", "t:1:14: must.n: required, but not given");
}

/* `times` copies of `piece`, between `before` and `after`. */
static char *many(const char *before, const char *piece, int times, const char *after)
{
    size_t n = strlen(piece), head = strlen(before), tail = strlen(after) + 1;
    char *text = malloc(head + n * (size_t)times + tail);
    cr_assert(text);
    memcpy(text, before, head);
    for (int i = 0; i < times; i++) memcpy(text + head + n * (size_t)i, piece, n);
    memcpy(text + head + n * (size_t)times, after, tail);
    return text;
}

Test(config_text, nests_to_its_limit_and_no_deeper)
{
    char *at_limit = many("", "child {", 100, ""), *closed = many(at_limit, "}", 100, "");
    release(read_all(closed));
    char *deeper = many("", "child <", 200000, "");
    Every__All *all;
    cr_expect_eq(read_bytes(deeper, strlen(deeper), &all), DT_ERR_CONFIG);
    cr_expect(strstr(dt_error_text(), "t:1:707: child.child.child"), "%s", dt_error_text());
    cr_expect(strstr(dt_error_text(), ": messages nest deeper than 100"), "%s", dt_error_text());
    free(at_limit);
    free(closed);
    free(deeper);
}

Test(config_text, survives_values_of_any_length)
{
    Every__All *all;
    char *number = many("i32: ", "9", 100000, ""), *text = many("text: '", "long ", 100000, "'");
    char *word = many("", "word", 100000, ": 1"), *list = many("ints: [0", ",1", 20000, "]");
    cr_expect_eq(read_bytes(number, strlen(number), &all), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(), "t:1:6: i32: 9999999999999999999999999999999999999999... is not an int32 "
                                      "(-2147483648..2147483647)");
    cr_expect_eq(read_bytes(word, strlen(word), &all), DT_ERR_CONFIG);
    all = read_all(text);
    cr_expect_eq(strlen(all->text), 500000);
    release(all);
    all = read_all(list);
    cr_expect(all->n_ints == 20001 && all->ints[0] == 0 && all->ints[20000] == 1);
    release(all);
    free(number);
    free(text);
    free(word);
    free(list);
}

/* Every prefix of a text, and every text with one byte changed, is read or refused; the sanitizers watch. */
Test(config_text, survives_any_damage)
{
    static const char text[] =
        "i32: -0x1f real: 1.5e-3 # c\n text: 'a\\u00e9\\'' \"b\" child < ints: [1, 2]; tree { color: RED } >"
        "must { n: 1, s: 's' } blob: '\\377'";
    char copy[sizeof text];
    for (size_t n = 0; n < sizeof text; n++) {
        char *exact = malloc(n ? n : 1); // so that reading past its end is seen
        Every__All *all;
        memcpy(exact, text, n);
        if (read_bytes(exact, n, &all) == DT_OK) release(all);
        free(exact);
    }
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            Every__All *all;
            memcpy(copy, text, sizeof text);
            copy[i] = (char)byte;
            if (read_bytes(copy, sizeof text - 1, &all) == DT_OK) {
                char *printed;
                cr_assert_eq(dt_config_print(&all->base, 1, &printed), DT_OK);
                release(all);
                all = read_all(printed);
                release(all);
                free(printed);
            } else {
                cr_assert(*dt_error_text());
            }
        }
    }
}

Test(config_text, a_nul_byte_ends_nothing)
{
    static const char text[] = "i32: 1 \0 i64: 2";
    Every__All *all;
    cr_expect_eq(read_bytes(text, sizeof text - 1, &all), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(), "t:1:8: expected the name of a field, not \"\"");
}
