/* The command line: words taken apart, values of options, and the errors that say what was meant. */
#include "cli/cli.h"
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

static dt_args args;

/* Parses "dtrain" and the given words, the last one NULL. */
static dt_status parse(const char *first, ...)
{
    char *argv[32] = {(char *)(uintptr_t) "dtrain"};
    int argc = 1;
    va_list ap;
    va_start(ap, first);
    for (const char *word = first; word != NULL; word = va_arg(ap, const char *))
        argv[argc++] = (char *)(uintptr_t)word;
    va_end(ap);
    return dt_args_parse(argc, argv, &args);
}
#define PARSE(...) cr_assert_eq(parse(__VA_ARGS__, NULL), DT_OK, "%s", dt_error_text())
/* The command line is refused with exactly this text. */
#define REFUSED(text, ...)                                                                                             \
    do {                                                                                                               \
        cr_expect_eq(parse(__VA_ARGS__, NULL), DT_ERR_CONFIG);                                                         \
        cr_expect_str_eq(dt_error_text(), text);                                                                       \
    } while (0)

Test(cli, a_configuration_alone_is_trained)
{
    PARSE("run/config.pb");
    cr_expect_str_eq(args.command->name, "train");
    cr_expect_str_eq(args.positional, "run/config.pb");
    cr_expect_null(dt_args_get(&args, "--fresh"));
    PARSE("--fresh", "config.pb"); /* options may come first */
    cr_expect_not_null(dt_args_get(&args, "--fresh"));
    PARSE("train", "config.pb");
    cr_expect_str_eq(args.command->name, "train");
}

Test(cli, the_first_word_names_the_command)
{
    for (const dt_command *const *c = dt_commands; *c != NULL; c++) {
        bool two = strchr((*c)->arguments, ' ') != NULL;
        PARSE((*c)->name, "x", two ? "y" : NULL);
        cr_expect_eq(args.command, *c);
        cr_expect_str_eq(args.positional, "x");
        cr_expect(two ? strcmp(args.second, "y") == 0 : args.second == NULL);
    }
}

Test(cli, values_stand_behind_an_option_or_its_equals_sign)
{
    PARSE("generate", "c.pb", "--prompt", "a=b", "--max-tokens=7", "--delta=", "--temperature", "-1");
    cr_expect_str_eq(dt_args_get(&args, "--prompt"), "a=b");
    cr_expect_str_eq(dt_args_get(&args, "--max-tokens"), "7");
    cr_expect_str_eq(dt_args_get(&args, "--delta"), "");
    cr_expect_str_eq(dt_args_get(&args, "--temperature"), "-1");
    cr_expect_null(dt_args_get(&args, "--top-p"));
    PARSE("generate", "c.pb", "--prompt=--help");
    cr_expect_str_eq(dt_args_get(&args, "--prompt"), "--help");
}

Test(cli, sets_are_collected_in_their_order)
{
    PARSE("eval", "c.pb", "--set", "a=1", "--json", "--set=b.c=2");
    cr_assert_eq(args.sets, 2);
    cr_expect_str_eq(args.set[0], "a=1");
    cr_expect_str_eq(args.set[1], "b.c=2");
}

Test(cli, what_is_not_known_is_refused_with_the_nearest_name)
{
    REFUSED("evl: no command and no file of that name; nearest command: eval; dtrain --help lists the commands", "evl",
            "c.pb");
    REFUSED("xyzzy: no command and no file of that name; dtrain --help lists the commands", "xyzzy");
    REFUSED("--max-token: dtrain generate has no such option; nearest: --max-tokens; dtrain generate --help lists them",
            "generate", "c.pb", "--max-token=3");
    REFUSED("--frsh: dtrain train has no such option; nearest: --fresh; dtrain train --help lists them", "c.pb",
            "--frsh");
    REFUSED("-q: dtrain eval has no such option; dtrain eval --help lists them", "eval", "c.pb", "-q");
    REFUSED("--set: dtrain inspect has no such option; dtrain inspect --help lists them", "inspect", "x", "--set",
            "a=1");
}

Test(cli, what_is_missing_or_too_much_is_named)
{
    REFUSED("dtrain eval: expected CONFIG; dtrain eval --help tells more", "eval");
    REFUSED("dtrain inspect: expected PATH; dtrain inspect --help tells more", "inspect");
    REFUSED("dtrain init: expected CONFIG-DIR OUT; dtrain init --help tells more", "init", "x");
    REFUSED("z: dtrain init takes one CONFIG-DIR OUT, and has y", "init", "x", "y", "z");
    REFUSED("b.pb: dtrain eval takes one CONFIG, and has a.pb", "eval", "a.pb", "b.pb");
    REFUSED("--prompt: expected TEXT behind it", "generate", "c.pb", "--prompt");
    REFUSED("--delta: expected CKPT behind it", "eval", "c.pb", "--delta", "--json");
    REFUSED("--set: expected path=value behind it", "c.pb", "--set");
    REFUSED("--json=1: --json takes no value", "eval", "c.pb", "--json=1");
}

Test(cli, more_sets_than_there_is_room_for_are_refused)
{
    char *argv[2 + DT_MAX_SETS + 1] = {(char *)(uintptr_t) "dtrain", (char *)(uintptr_t) "c.pb"};
    for (int i = 0; i <= DT_MAX_SETS; i++) argv[2 + i] = (char *)(uintptr_t) "--set=a=1";
    cr_assert_eq(dt_args_parse(2 + DT_MAX_SETS, argv, &args), DT_OK);
    cr_assert_eq(dt_args_parse(2 + DT_MAX_SETS + 1, argv, &args), DT_ERR_CONFIG);
}

Test(cli, whole_numbers_are_read_whole)
{
    int64_t n = -1;
    PARSE("generate", "c.pb", "--max-tokens", "12");
    cr_expect_eq(dt_args_count(&args, "--max-tokens", 1, 99, &n), DT_OK);
    cr_expect_eq(n, 12);
    cr_expect_eq(dt_args_count(&args, "--seed", 0, 99, &n), DT_OK);
    cr_expect_eq(n, 99, "not given");
    static const char *const wrong[] = {"0", "-3", "ten", "", "1.5", "3x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char expected[128];
        PARSE("generate", "c.pb", "--max-tokens", wrong[i]);
        cr_expect_eq(dt_args_count(&args, "--max-tokens", 1, 99, &n), DT_ERR_CONFIG, "%s", wrong[i]);
        snprintf(expected, sizeof expected, "--max-tokens: %s is not a whole number >= 1", wrong[i]);
        cr_expect_str_eq(dt_error_text(), expected);
    }
}

static void refuse_real(const char *option, const char *value, dt_range range, const char *expectation)
{
    double x;
    char expected[128];
    PARSE("generate", "c.pb", option, value);
    cr_expect_eq(dt_args_real(&args, option, range, 0, &x), DT_ERR_CONFIG, "%s", value);
    snprintf(expected, sizeof expected, "%s: %s is not a number %s", option, value, expectation);
    cr_expect_str_eq(dt_error_text(), expected);
}

Test(cli, numbers_are_held_to_their_range)
{
    const dt_range share = {0, 1, true}, not_negative = {0, INFINITY, false}, positive = {0, INFINITY, true};
    double x = -1;
    PARSE("generate", "c.pb", "--top-p", "1", "--temperature", "1e-3");
    cr_expect_eq(dt_args_real(&args, "--top-p", share, 0, &x), DT_OK);
    cr_expect_eq(x, 1);
    cr_expect_eq(dt_args_real(&args, "--temperature", not_negative, 0, &x), DT_OK);
    cr_expect_eq(x, 1e-3);
    cr_expect_eq(dt_args_real(&args, "--seed", positive, 7, &x), DT_OK);
    cr_expect_eq(x, 7, "not given");
    refuse_real("--top-p", "0", share, "in (0..1]");
    refuse_real("--top-p", "1.01", share, "in (0..1]");
    refuse_real("--top-p", "half", share, "in (0..1]");
    refuse_real("--temperature", "-1", not_negative, ">= 0");
    refuse_real("--temperature", "nan", not_negative, ">= 0");
    refuse_real("--temperature", "inf", not_negative, ">= 0");
    refuse_real("--temperature", "0", positive, "> 0");
    refuse_real("--temperature", "1 2", positive, "> 0");
}

Test(cli, help_and_version_run_nothing, .init = cr_redirect_stdout)
{
    PARSE("--help");
    cr_expect_null(args.command);
    PARSE("eval", "--help");
    cr_expect_null(args.command);
    PARSE("generate", "c.pb", "--nonsense", "-h"); /* whatever else is there */
    cr_expect_null(args.command);
    PARSE("--version");
    cr_expect_null(args.command);
}

Test(cli, every_command_teaches)
{
    for (const dt_command *const *c = dt_commands; *c != NULL; c++) {
        int options = 0;
        cr_expect(strlen((*c)->summary) > 0 && strlen((*c)->text) > 0 && strstr((*c)->examples, "dtrain") != NULL, "%s",
                  (*c)->name);
        for (const dt_option *o = (*c)->options; o->name != NULL; o++, options++) {
            cr_expect(strncmp(o->name, "--", 2) == 0 && strlen(o->help) > 0, "%s", o->name);
            cr_expect_leq(strlen(o->name) + (o->value ? strlen(o->value) + 1 : 0), 18, "%s is too wide", o->name);
        }
        cr_expect_leq(options, DT_MAX_OPTIONS);
        for (const char *line = (*c)->text; *line; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] == '\n'))
            cr_expect_leq(strcspn(line, "\n"), 105, "%s: a line of help is too long: %s", (*c)->name, line);
    }
}
