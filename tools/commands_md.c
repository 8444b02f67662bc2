/* SPDX-License-Identifier: Apache-2.0 */
/* commands-md - what is made from the table of commands.
 *
 *   commands-md           docs/commands.md
 *   commands-md --index   src/data/command_index.inc
 *
 * It reads the .def files only, so that it builds before anything else does. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "data/command_hash.h"

struct row {
    const char *name, *group, *since, *complexity, *arguments, *summary;
};

static const struct row rows[] = {
#define COMMAND(id_, name_, arity_, flags_, first_, last_, step_, group_, since_,        \
                complexity_, arguments_, summary_)                                       \
    {name_, group_, since_, complexity_, arguments_, summary_},
#include "data/command.def"
#undef COMMAND
};
enum { ROWS = sizeof rows / sizeof *rows };

struct refusal {
    const char *code, *retry, *text;
};

static const struct refusal refusals[] = {
#define OUTCOME(name_, code_, retry_, text_) {code_, #retry_, text_},
#include "data/outcome.def"
#undef OUTCOME
};
enum { REFUSALS = sizeof refusals / sizeof *refusals };

/* ---- the index ---- */

enum { INDEX_BITS_MIN = 8, INDEX_BITS_MAX = 14, SEEDS_A_SIZE = 200 * 1000 };

static bool seed_fits(uint64_t seed, uint32_t bits, uint8_t index[1 << INDEX_BITS_MAX])
{
    memset(index, 0, (size_t)1 << bits);
    for (uint32_t i = 0; i < ROWS; i++) {
        if (strchr(rows[i].name, '|') != NULL) continue;
        const uint32_t at = command_hash(bytes_of_str(rows[i].name), seed, bits);
        if (index[at] != 0) return false;
        index[at] = (uint8_t)(i + 1);
    }
    return true;
}

static void index_print(uint64_t seed, uint32_t bits, const uint8_t *index)
{
    printf("/* SPDX-License-Identifier: Apache-2.0 */\n"
           "/* Made by `commands-md --index` from command.def; not to be edited. */\n"
           "#define COMMAND_INDEX_SEED UINT64_C(0x%016llx)\n"
           "enum { COMMAND_INDEX_BITS = %u };\n\n"
           "static const uint8_t command_index[1 << COMMAND_INDEX_BITS] = {",
           (unsigned long long)seed, bits);
    for (uint32_t i = 0; i < 1u << bits; i++)
        printf("%s%u,", i % 16 == 0 ? "\n    " : " ", index[i]);
    printf("\n};\n");
}

static int index_write(void)
{
    static uint8_t index[1 << INDEX_BITS_MAX];
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

    if (ROWS > UINT8_MAX) return 1;
    for (uint32_t bits = INDEX_BITS_MIN; bits <= INDEX_BITS_MAX; bits++) {
        for (uint32_t i = 0; i < SEEDS_A_SIZE; i++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            if (seed_fits(seed | 1, bits, index)) {
                index_print(seed | 1, bits, index);
                return 0;
            }
        }
    }
    fprintf(stderr, "commands-md: no seed found; raise INDEX_BITS_MAX\n");
    return 1;
}

/* ---- the page ---- */

/* In a cell of a table '|' must be escaped; %s and %llu stand for what the server names. */
static void cell_print(const char *text)
{
    for (; *text != 0; text++) {
        if (*text == '|')
            printf("\\|");
        else
            putchar(*text);
    }
}

static void upper_print(const char *name)
{
    for (; *name != 0; name++) {
        const char c = *name == '|' ? ' ' : *name;
        putchar(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
}

static void group_print(const char *group, const char *title)
{
    printf("\n## %s\n\n", title);
    printf("| Command | What it does | Cost | Since |\n| --- | --- | --- | --- |\n");
    for (uint32_t i = 0; i < ROWS; i++) {
        const struct row *r = &rows[i];
        if (strcmp(r->group, group) != 0) continue;
        if (strcmp(r->complexity, "by subcommand") == 0) continue;
        printf("| `");
        upper_print(r->name);
        if (r->arguments[0] != 0) putchar(' ');
        cell_print(r->arguments);
        printf("` | ");
        cell_print(r->summary);
        printf(" | %s | %s |\n", r->complexity, r->since);
    }
}

static void refusals_print(void)
{
    printf(
        "\n## Errors\n\n"
        "An error is `-CODE text`. *Safe*: nothing was applied, the same request may be "
        "sent again.\n*Unsafe*: it will be refused again as it stands. *Uncertain*: it "
        "may have been applied.\n\n"
        "| Code | Text | Retry |\n| --- | --- | --- |\n");
    for (uint32_t i = 0; i < REFUSALS; i++) {
        printf("| %s | ", refusals[i].code);
        cell_print(refusals[i].text);
        printf(" | %s |\n", refusals[i].retry);
    }
}

static int page_write(void)
{
    static const char *const groups[][2] = {
        {"string", "Strings"},
        {"generic", "Keys"},
        {"transactions", "Transactions"},
        {"connection", "Connection"},
        {"server", "Server"},
        {"cluster", "Cluster"},
    };

    printf(
        "# Commands\n\n"
        "<!-- Made by commands-md from src/data/command.def and outcome.def; "
        "do not edit. -->\n\n"
        "Arguments, replies and error texts are those of Redis 7.2 where Redis has the "
        "command.\n*Since* names the version of Redis that brought it, or that of "
        "sennit.\n");
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        group_print(groups[i][0], groups[i][1]);
    refusals_print();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 1) return page_write();
    if (argc == 2 && strcmp(argv[1], "--index") == 0) return index_write();
    fprintf(stderr, "usage: commands-md [--index]\n");
    return 2;
}
