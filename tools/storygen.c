/* storygen: the text of examples/stories, drawn from a small grammar; the same seed gives the same rows.
 *
 *   storygen text SEED ROWS          rows {"text": ...} to pre-train a backbone on: a story, or two records, never both
 *   storygen task SEED ROWS SPLIT    rows {"prompt": story + "\nRecord:", "completion": the record of that story}: the
 *                                    new task; SPLIT train and eval share no name and no coloured thing
 *
 * A plot is one line of grammar: [a|b|c] is one of its alternatives, which may hold further ones, and {x} is a fact of
 * the story ({^x} with a capital), drawn once, so that what a story says of somebody or something it says to its end.
 */
#include "base/rng.h"
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

typedef struct person {
    const char *name, *subject, *object, *possessive;
} person;

#define HER "she", "her", "her"
#define HIM "he", "him", "his"
static const person people[] = {
    {"Ada", HER},   {"Ben", HIM},   {"Cleo", HER},  {"Dan", HIM},   {"Elin", HER},  {"Finn", HIM}, {"Gwen", HER},
    {"Hugo", HIM},  {"Ines", HER},  {"Jon", HIM},   {"Kira", HER},  {"Leo", HIM},   {"Mira", HER}, {"Nils", HIM},
    {"Olga", HER},  {"Paul", HIM},  {"Rosa", HER},  {"Sam", HIM},   {"Tess", HER},  {"Udo", HIM},  {"Vera", HER},
    {"Will", HIM},  {"Yara", HER},  {"Zeno", HIM},  {"Anna", HER},  {"Bruno", HIM}, {"Dora", HER}, {"Emil", HIM},
    {"Freya", HER}, {"Georg", HIM}, {"Hana", HER},  {"Ivan", HIM},  {"Julia", HER}, {"Karl", HIM}, {"Lena", HER},
    {"Max", HIM},   {"Nora", HER},  {"Oscar", HIM}, {"Petra", HER}, {"Ralf", HIM},
};
enum { TRAIN_PEOPLE = 30 }; /* the task's training rows are about these, its held-out rows about the others */

static const char *const colours[] = {"red",  "blue", "green",  "yellow", "white",  "black",
                                      "grey", "pink", "purple", "brown",  "silver", "golden"};
static const char *const things[] = {"basket", "box",     "pot",    "cup",    "hat",   "bottle",  "kite",  "boat",
                                     "lamp",   "drum",    "ball",   "bell",   "book",  "ring",    "flag",  "key",
                                     "coat",   "ribbon",  "button", "candle", "spoon", "whistle", "wheel", "mirror",
                                     "ladder", "feather", "chair",  "stone",  "scarf", "clock"};
enum { VESSELS = 6 }; /* things that hold something: the first ones */
static const char *const fruits[] = {"apples", "plums", "pears", "nuts", "cherries", "lemons", "shells", "eggs"};
static const char *const animals[] = {"fox", "goat", "dog", "cat", "horse", "hen", "rabbit", "duck", "pony", "crow"};
static const char *const places[] = {"the harbour", "the mill",   "the market", "the bridge", "the forest",
                                     "the lake",    "the school", "the tower",  "the garden", "the station",
                                     "the church",  "the hill",   "the beach",  "the barn",   "the library",
                                     "the castle",  "the well",   "the bakery", "the meadow", "the river"};
static const char *const numbers[] = {"zero",     "one",     "two",     "three",     "four",     "five",    "six",
                                      "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",  "thirteen",
                                      "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};

typedef struct plot {
    const char *story, *record;
} plot;

static const char when[] = "[[One|On a] [windy|sunny|cold|rainy|quiet|warm] [morning|evening|day]|"
                           "It was a [windy|sunny|cold|rainy] [morning|evening|day], and]";

// clang-format off
static const plot plots[] = {
    {"{when} {a} [went|walked|ran] to {p} with {his} {c} {t}. [There {he} fell asleep under a tree.|{^he} played there "
     "until dark.|Soon it began to rain, and {he} ran home.] [At home|That night|Later] the {t} was gone. {a} looked for "
     "it [at|near] {q} and [at|near] {r}, but it was not there. [Then|The next day|At last] {b} came [by|to the door]"
     "[| with a smile|, out of breath]. \"Is this {c} {t} yours?\" asked {b}. \"[I found it|It lay] near {p}.\" {a} "
     "[thanked {him.b}|was so happy that {he} danced|laughed and gave {him.b} a hug].",
     "plot: lost; who: {a}; thing: {c} {t}; place: {p}; found by: {b}"},

    {"{a} had a {c} {t}, but {he} [wanted|dreamed of|wished for] a {d} {u}. [{when}|One day] {he} met {b} [at|near] {p}. "
     "{b} had a {d} {u}[| and did not like it]. \"[Shall we swap|Will you swap with me]?\" asked {a}. \"[Yes|With "
     "pleasure|Why not],\" said {b}. So {a} gave {him.b} the {c} {t} and took the {d} {u}. [Both|They] went home happy.",
     "plot: swap; who: {a}; gave: {c} {t}; got: {d} {u}; place: {p}; friend: {b}"},

    {"{a} [had|carried|kept] {n} {f} in a {c} {v}. {when} {he} met {b} at {p}. {b} [had too many {f}|was very kind] and "
     "gave {him} {m} more. {a} counted them [with care|twice|aloud]. Now there were {n+m} {f} in the {c} {v}. "
     "[\"{^n+m}!\" cried {a}. |]{^he} [ran|walked|went] home [singing|to show them to everybody].",
     "plot: count; who: {a}; had: {n} {f}; got: {m}; now: {n+m}; friend: {b}"},

    {"{a} [picked|found|bought] {n+m} {f} at {p} and put them into a {c} {v}. On the way home {he} met {b}, who was "
     "[hungry|sad|tired]. {a} gave {him.b} {m} of the {f}. \"[Thank you|How kind],\" said {b}. Then there were only {n} "
     "{f} in the {c} {v}, but {a} [did not mind|was glad].",
     "plot: share; who: {a}; had: {n+m} {f}; gave: {m}; left: {n}; friend: {b}"},

    {"{when} the {w} of {a} ran away from {p}. {a} [looked|called|searched] for it [all day|for {n} hours]. It was not at "
     "{q}. [\"Have you seen my {w}?\" {he} asked {b}. |Then {he} asked {b}. ]\"I saw a {w} [at|near] {r},\" said {b}. {a} "
     "[ran|hurried] to {r}, and there [it was|the {w} sat], [playing with|asleep on|hiding behind] a {c} {t}.",
     "plot: runaway; who: {a}; animal: {w}; from: {p}; to: {r}; seen by: {b}"},

    {"{a} and {b} [ran|had] a race from {p} to {q}. The prize was a {c} {t}. [At first|Near {r}] {b} was in front, but "
     "then {he.b} [lost a shoe|stopped to drink|fell over a {w}]. {a} was the first to reach {q}. [Everybody clapped. |]"
     "\"[Well done|You were fast],\" said {b}, and {a} [took|got] the {c} {t}.",
     "plot: race; winner: {a}; second: {b}; from: {p}; to: {q}; prize: {c} {t}"},

    {"{when} {a} [turned|became] {n} years old. There was a [big|small] party at {p}. {b} [came|arrived] with a {w} and a "
     "[big|small|heavy] parcel. {a} opened it[| at once| slowly]. Inside was a {c} {t}. \"[It is just what I wanted|A {c} "
     "{t}],\" cried {a}, and {he} [hugged|thanked] {b}. [They ate cake until night.|The {w} ate the cake.]",
     "plot: birthday; who: {a}; age: {n}; gift: {c} {t}; from: {b}; place: {p}"},

    {"{a} lived near {p} and {b} lived near {q}. [{when}|One day] {a} wrote {him.b} a letter. \"[Dear|My dear] {b},\" it "
     "said, \"[please come|come and see me] [in {n} days|soon], and bring your {c} {t}.\" {b} [read|got] the letter and "
     "[smiled|laughed]. {^he.b} took the {c} {t} and left {q}. [After a long walk|In the evening] {he.b} [was|arrived] "
     "at {p}, where {a} [was waiting|stood with a {w}].",
     "plot: letter; by: {a}; to: {b}; bring: {c} {t}; from: {q}; to: {p}"},

    {"{when} {a} sold things at {p}. {^he} had a {c} {t} and a {d} {u}. {b} came and looked at [them|both] for a long "
     "time. \"How much is the {c} {t}?\" asked {b}. \"{^n} coins,\" said {a}. [\"That is a lot,\" said {b}, but {he.b}|"
     "{b}] paid {n} coins and took the {c} {t}. Nobody wanted the {d} {u}, so {a} [gave it to a {w}|took it home|kept "
     "it].",
     "plot: sale; seller: {a}; buyer: {b}; thing: {c} {t}; price: {n}; place: {p}"},

    {"{a} [wanted|needed] to paint {his} {t}. It was {d}, and {he} did not like {d}. {when} {he} [went|walked] to {p} and "
     "asked {b} for some paint. {b} had only {c} paint. \"[{^c} is fine|I like {c}],\" said {a}. {^he} worked for {n} "
     "[hours|days]. In the end the {t} was {c}, and [so was {his} {w}|so were {his} hands|everybody liked it].",
     "plot: paint; who: {a}; thing: {t}; was: {d}; now: {c}; paint from: {b}"},
};
// clang-format on

/** The facts of one story, and the stream of random numbers they and its alternatives come from. */
typedef struct story {
    const person *a, *b;
    const char *c, *d, *t, *u, *v, *f, *w, *p, *q, *r;
    int n, m;
    uint64_t seed, row, drawn;
} story;

static int draw(story *s, int n)
{
    uint32_t word[4];
    dt_rng_words(s->seed, DT_RNG_SAMPLE, s->row, s->drawn++, word);
    return (int)((uint64_t)word[0] * (uint64_t)n >> 32);
}

/** A number below n that is none of `taken`. */
static int draw_other(story *s, int n, int taken, int taken2)
{
    int x = draw(s, n);
    while (x == taken || x == taken2) x = draw(s, n);
    return x;
}

typedef enum split { ALL, TRAIN, EVAL } split;

/** Coloured things are dealt to the splits by a fixed rule, one in five to the held-out rows. */
static int pair_allowed(split which, int colour, int thing)
{
    return which == ALL || ((colour + thing) % 5 == 0) == (which == EVAL);
}

static void draw_facts(story *s, split which)
{
    const int first = which == EVAL ? TRAIN_PEOPLE : 0;
    const int count = (which == TRAIN ? TRAIN_PEOPLE : COUNT(people)) - first;
    const int a = draw(s, count);
    s->a = &people[first + a];
    s->b = &people[first + draw_other(s, count, a, -1)];

    int c, d, t, u, v;
    do {
        c = draw(s, COUNT(colours));
        d = draw_other(s, COUNT(colours), c, -1);
        t = draw(s, COUNT(things));
        u = draw_other(s, COUNT(things), t, -1);
        v = draw(s, VESSELS);
    } while (!pair_allowed(which, c, t) || !pair_allowed(which, d, t) || !pair_allowed(which, d, u) ||
             !pair_allowed(which, c, v));
    s->c = colours[c];
    s->d = colours[d];
    s->t = things[t];
    s->u = things[u];
    s->v = things[v];

    const int p = draw(s, COUNT(places));
    const int q = draw_other(s, COUNT(places), p, -1);
    s->p = places[p];
    s->q = places[q];
    s->r = places[draw_other(s, COUNT(places), p, q)];
    s->f = fruits[draw(s, COUNT(fruits))];
    s->w = animals[draw(s, COUNT(animals))];
    s->n = 2 + draw(s, 8);
    s->m = 2 + draw(s, 8);
}

/** A fact by its name in the grammar, of `n` bytes. */
static const char *fact(const story *s, const char *name, size_t n)
{
    const struct {
        const char *name, *text;
    } facts[] = {
        {"a", s->a->name},
        {"he", s->a->subject},
        {"him", s->a->object},
        {"his", s->a->possessive},
        {"b", s->b->name},
        {"he.b", s->b->subject},
        {"him.b", s->b->object},
        {"c", s->c},
        {"d", s->d},
        {"t", s->t},
        {"u", s->u},
        {"v", s->v},
        {"f", s->f},
        {"w", s->w},
        {"p", s->p},
        {"q", s->q},
        {"r", s->r},
        {"n", numbers[s->n]},
        {"m", numbers[s->m]},
        {"n+m", numbers[s->n + s->m]},
        {"when", when},
    };
    for (int i = 0; i < COUNT(facts); i++)
        if (strlen(facts[i].name) == n && memcmp(facts[i].name, name, n) == 0) return facts[i].text;
    fprintf(stderr, "storygen: the grammar names a fact {%.*s} that there is not\n", (int)n, name);
    exit(1);
}

/** Where the alternative or group that starts at `text` ends: at its '|' or ']'. */
static const char *alternative_end(const char *text)
{
    int depth = 0;
    for (; depth > 0 || (*text != '|' && *text != ']'); text++) depth += (*text == '[') - (*text == ']');
    return text;
}

/** Writes grammar[..end), as part of a JSON string, with its alternatives chosen and its facts filled in. */
static void expand(story *s, const char *grammar, const char *end)
{
    while (grammar < end) {
        if (*grammar == '[') {
            int n = 1;
            const char *chosen = ++grammar, *chosen_end = alternative_end(grammar), *last = chosen_end;
            for (; *last == '|'; last = alternative_end(last + 1)) n++;
            for (int skip = draw(s, n); skip > 0; skip--) {
                chosen = chosen_end + 1;
                chosen_end = alternative_end(chosen);
            }
            expand(s, chosen, chosen_end);
            grammar = last + 1;
        } else if (*grammar == '{') {
            const int capital = grammar[1] == '^';
            const char *name = grammar + 1 + capital;
            const size_t n = strcspn(name, "}");
            const char *text = fact(s, name, n);
            if (capital) putchar(toupper((unsigned char)*text++));
            expand(s, text, text + strlen(text));
            grammar = name + n + 1;
        } else {
            if (*grammar == '"') putchar('\\');
            putchar(*grammar++);
        }
    }
}

static void put(story *s, const char *grammar)
{
    expand(s, grammar, grammar + strlen(grammar));
}

static const plot *draw_plot(story *s)
{
    return &plots[draw(s, COUNT(plots))];
}

static void put_text_row(story *s)
{
    fputs("{\"text\": \"", stdout);
    if (draw(s, 4) > 0) {
        put(s, draw_plot(s)->story);
    } else {
        fputs("Record: ", stdout);
        put(s, draw_plot(s)->record);
        fputs("\\nRecord: ", stdout);
        put(s, draw_plot(s)->record);
    }
    fputs("\"}\n", stdout);
}

static void put_task_row(story *s)
{
    const plot *p = draw_plot(s);
    fputs("{\"prompt\": \"", stdout);
    put(s, p->story);
    fputs("\\nRecord:\", \"completion\": \" ", stdout);
    put(s, p->record);
    fputs("\"}\n", stdout);
}

static int usage(void)
{
    fputs("usage: storygen text SEED ROWS | storygen task SEED ROWS train|eval\n", stderr);
    return 2;
}

static int parse_count(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0 && errno == 0;
}

int main(int argc, char **argv)
{
    uint64_t seed, rows;
    if (argc < 4) return usage();
    const int task = strcmp(argv[1], "task") == 0;
    if ((!task && strcmp(argv[1], "text") != 0) || argc != 4 + task) return usage();
    split which = ALL;
    if (task) {
        which = strcmp(argv[4], "train") == 0 ? TRAIN : EVAL;
        if (which == EVAL && strcmp(argv[4], "eval") != 0) return usage();
    }
    if (!parse_count(argv[2], &seed) || !parse_count(argv[3], &rows)) return usage();
    for (uint64_t row = 0; row < rows; row++) {
        story s = {.seed = seed, .row = row};
        draw_facts(&s, which);
        if (task) put_task_row(&s);
        else put_text_row(&s);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("storygen");
        return 1;
    }
    return 0;
}
