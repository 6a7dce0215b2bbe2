/* --set path=value: what it reaches, what it replaces, what it refuses. */
#include "config/config.h"
#include "config/message.h"
#include "config/set.h"
#include "config/text.h"
#include "every.pb-c.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The printed result of applying `sets`, up to a NULL, to an empty every.All. */
static char *apply(const char *const *sets)
{
    dt_places places = {0};
    ProtobufCMessage *message;
    char *text;
    cr_assert_eq(dt_message_new(&every__all__descriptor, &message), DT_OK);
    for (; *sets; sets++) cr_assert_eq(dt_set_apply(message, *sets, &places), DT_OK, "%s", dt_error_text());
    cr_assert_eq(dt_config_print(message, 0, &text), DT_OK);
    protobuf_c_message_free_unpacked(message, NULL);
    dt_places_free(&places);
    return text;
}

#define EXPECT_TEXT(expected, ...)                                                                                     \
    do {                                                                                                               \
        char *text_ = apply((const char *const[]){__VA_ARGS__, NULL});                                                 \
        cr_expect_str_eq(text_, expected, "%s", text_);                                                                \
        free(text_);                                                                                                   \
    } while (0)

static void expect_error(const char *set, const char *message)
{
    dt_places places = {0};
    ProtobufCMessage *all;
    cr_assert_eq(dt_message_new(&every__all__descriptor, &all), DT_OK);
    cr_assert_eq(dt_set_apply(all, "ints=[1, 2]", &places), DT_OK);
    cr_expect_eq(dt_set_apply(all, set, &places), DT_ERR_CONFIG, "was taken: %s", set);
    cr_expect_str_eq(dt_error_text(), message, "%s", dt_error_text());
    protobuf_c_message_free_unpacked(all, NULL);
    dt_places_free(&places);
}

Test(config_set, sets_and_replaces_scalars_of_every_type)
{
    EXPECT_TEXT("i32: -5\nu64: 255\nwide: 0.002\nflag: false\ncolor: DEEP_BLUE\nblob: \"a\\000\"\n", "i32=1", "i32=-5",
                "u64=0xff", "wide=2e-3", "flag=false", "color=DEEP_BLUE", "blob='a\\000'");
    EXPECT_TEXT("color: GREEN\n", "color=1");
}

Test(config_set, strings_stand_bare_or_in_quotes)
{
    EXPECT_TEXT("text: \"a b=c # d\"\n", "text=a b=c # d");
    EXPECT_TEXT("text: \"a\\nb\"\n", "text=\"a\\nb\"");
    EXPECT_TEXT("text: \"it's\"\n", "text=it's");
    EXPECT_TEXT("text: \"\"\n", "text=x", "text=");
    EXPECT_TEXT("text: \"[x]\"\n", "text=[x]");
}

Test(config_set, makes_the_messages_on_the_way)
{
    EXPECT_TEXT("child {\n  i64: 4\n  child {\n    i32: 3\n  }\n}\n", "child={child{i32:3} i64:4}", "child.i64=4",
                "child={}", "child.child.i32=3", "child.i64=4");
}

Test(config_set, replaces_all_elements_without_an_index)
{
    EXPECT_TEXT("ints: 7\n", "ints=[1, 2, 3]", "ints=7");
    EXPECT_TEXT("ints: 8\nints: 9\n", "ints=7", "ints=[8, 9]");
    EXPECT_TEXT("", "ints=7", "ints=[]");
    EXPECT_TEXT("texts: \"re:a|b\"\n", "texts=['x', 'y']", "texts=re:a|b");
    EXPECT_TEXT("texts: \"q\"\ntexts: \"v\"\n", "texts=x", "texts=[\"q\", 'v']");
    EXPECT_TEXT("children {\n  i32: 2\n}\n", "children=[{}, {}]", "children={i32: 2}");
}

Test(config_set, replaces_or_appends_the_element_of_an_index)
{
    EXPECT_TEXT("ints: 5\nints: 6\nints: 7\n", "ints[0]=1", "ints[1]=6", "ints[0]=5", "ints[2]=7");
    EXPECT_TEXT("texts: \"[b\"\n", "texts[0]=a", "texts[0]=[b");
    EXPECT_TEXT("children {\n  i32: 1\n}\nchildren {\n  texts: \"t\"\n}\n", "children[0].i32=1",
                "children[1].texts[0]=t");
    EXPECT_TEXT("children {\n  i64: 2\n}\n", "children[0].i32=1", "children[0]={i64: 2}");
}

Test(config_set, selects_a_member_of_a_oneof)
{
    EXPECT_TEXT("word: \"w\"\n", "number=1", "word=w");
    EXPECT_TEXT("tree {\n  i32: 1\n  i64: 2\n}\n", "word=w", "tree.i32=1", "tree.i64=2");
    EXPECT_TEXT("tree {\n}\n", "number=1", "tree={}");
    EXPECT_TEXT("number: 0\n", "tree.i32=1", "number=0");
}

Test(config_set, keeps_what_is_in_the_message_it_enters)
{
    EXPECT_TEXT("tree {\n  i32: 1\n  wide: 2\n}\n", "tree={i32: 1 wide: 1}", "tree.wide=2");
}

Test(config_set, without_an_index_the_only_element_is_meant)
{
    EXPECT_TEXT("children {\n  i32: 1\n}\n", "children.i32=1");
    EXPECT_TEXT("children {\n  i32: 3\n  wide: 2\n}\n", "children[0].i32=1", "children.wide=2", "children.i32=3");
    dt_places places = {0};
    ProtobufCMessage *all;
    cr_assert_eq(dt_message_new(&every__all__descriptor, &all), DT_OK);
    cr_assert_eq(dt_set_apply(all, "children=[{i32: 1}, {i32: 2}]", &places), DT_OK, "%s", dt_error_text());
    cr_expect_eq(dt_set_apply(all, "children.i32=3", &places), DT_ERR_CONFIG);
    cr_expect_str_eq(dt_error_text(),
                     "--set children.i32=3: children has 2 elements: say which one, such as children[0]");
    protobuf_c_message_free_unpacked(all, NULL);
    dt_places_free(&places);
}

Test(config_set, errors_of_paths)
{
    expect_error("i32", "--set i32: expected path=value");
    expect_error("=1",
                 "--set =1: All has no field \"\", only: i32, s32, sf32, i64, s64, sf64, u32, f32, u64, f64, real, "
                 "wide, flag, color, text, blob, child, ints, reals, flags, colors, texts, blobs, children, number, "
                 "word, tree, must");
    expect_error("child.colour=RED",
                 "--set child.colour=RED: child: All has no field \"colour\"; did you mean \"color\"?");
    expect_error("child..i32=1",
                 "--set child..i32=1: child: All has no field \"\", only: i32, s32, sf32, i64, s64, sf64, "
                 "u32, f32, u64, f64, real, wide, flag, color, text, blob, child, ints, reals, flags, "
                 "colors, texts, blobs, children, number, word, tree, must");
    expect_error("i32.x=1", "--set i32.x=1: i32 has no fields: it is of type int32");
    expect_error("i32[0]=1", "--set i32[0]=1: i32 is not repeated: it takes no index");
    expect_error("child[0].i32=1", "--set child[0].i32=1: child is not repeated: it takes no index");
    expect_error("children.i32[0]=1", "--set children.i32[0]=1: children[0]: i32 is not repeated: it takes no index");
    expect_error("ints[3]=1", "--set ints[3]=1: ints[3] is past the end; [2] would append");
    expect_error("ints[99999999999999999999]=1",
                 "--set ints[99999999999999999999]=1: ints[9223372036854775807] is past the end; [2] would append");
    expect_error("children[1].i32=1", "--set children[1].i32=1: children[1] is past the end; [0] would append");
    expect_error("ints[-1]=1", "--set ints[-1]=1: [-1] is not an index such as [0]");
    expect_error("ints[]=1", "--set ints[]=1: [] is not an index such as [0]");
    expect_error("ints[0=1", "--set ints[0=1: [0 is not an index such as [0]");
    expect_error("ints[0]x=1", "--set ints[0]x=1: [0]x is not an index such as [0]");
}

Test(config_set, errors_of_values)
{
    expect_error("i32=", "--set i32=: i32: the end is not an int32 (-2147483648..2147483647)");
    expect_error("i32=1 2", "--set i32=1 2: i32: 2 stands behind the value");
    expect_error("wide=fast", "--set wide=fast: wide: fast is not a decimal number");
    expect_error("color=GREN",
                 "--set color=GREN: color: GREN is not one of NEGATIVE, RED, GREEN, DEEP_BLUE; did you mean "
                 "GREEN?");
    expect_error("text=\"a", "--set text=\"a: text: the string that starts here has no closing \" on its line");
    expect_error("text='a'b", "--set text='a'b: text: b stands behind the value");
    expect_error("texts=['a', b]", "--set texts=['a', b]: texts[1]: b is not a string in quotes");
    expect_error("ints=[1,", "--set ints=[1,: ints[1]: the end is not an int32 (-2147483648..2147483647)");
    expect_error("ints=[1] 2", "--set ints=[1] 2: 2 stands behind the value");
    expect_error("child=5", "--set child=5: child: expected \"{\", not 5");
    expect_error("child={i32: 1", "--set child={i32: 1: child: expected \"}\", not the end");
    expect_error("child={i32: 1 i32: 2}", "--set child={i32: 1 i32: 2}: child.i32: given twice");
    expect_error("child={number: 1 word: ''}",
                 "--set child={number: 1 word: ''}: child.word: child.number is given; only one of them can be");
    expect_error("children[0].must={n: 1}",
                 "--set children[0].must={n: 1}: children[0].must.s: required, but not given");
}

Test(config_set, nests_to_the_limit_of_the_text_and_no_deeper)
{
    char set[DT_TEXT_DEEPEST * 6 + 32] = "", error[2 * sizeof set];
    for (int i = 0; i < DT_TEXT_DEEPEST; i++) strcat(set, "child.");
    strcat(set, "i32=1");
    char *text = apply((const char *const[]){set, NULL});
    cr_expect(strstr(text, "i32: 1"));
    free(text);
    memcpy(set + strlen(set) - 5, "child.i32=1", 12);
    snprintf(error, sizeof error, "--set %s: messages nest deeper than %d", set, DT_TEXT_DEEPEST);
    expect_error(set, error);
}
