/* SPDX-License-Identifier: Apache-2.0 */
#include "host/data_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

struct place {
    char top[64], data[128];
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);

    check(p != NULL);
    strcpy(p->top, "/tmp/sennit-data-dir-XXXXXX");
    check(mkdtemp(p->top) != NULL);
    snprintf(p->data, sizeof p->data, "%s/data", p->top);
    *state = p;
    return 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", p->top);
    const int status = system(command); /* NOLINT: the path is our own */
    free(p);
    return status;
}

static void put_file(const struct place *p, const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", p->data, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void a_new_directory_is_made_whole(void **state)
{
    const struct place *p = *state;
    struct data_dir d;
    struct data_dir_error why;
    char path[256], text[32] = {0};

    assert_true(data_dir_open(&d, p->data, &why));
    assert_int_equal(d.n_wal_files, 0);
    assert_int_equal(access(d.wal, F_OK), 0);
    assert_int_equal(access(d.store, F_OK), 0);
    data_dir_close(&d);
    snprintf(path, sizeof path, "%s/FORMAT", p->data);
    const int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof text - 1), 9);
    close(fd);
    assert_string_equal(text, "sennit 1\n");
    assert_true(data_dir_open(&d, p->data, &why)); /* again, now that it is there */
    data_dir_close(&d);
}

static void only_log_files_are_listed(void **state)
{
    const struct place *p = *state;
    struct data_dir d;
    struct data_dir_error why;

    assert_true(data_dir_open(&d, p->data, &why));
    data_dir_close(&d);
    put_file(p, "wal/wal-0000000a", "0123456789");
    put_file(p, "wal/wal-0000000a.bak", "x");
    put_file(p, "wal/wal-0000000A", "x");
    put_file(p, "wal/wal-fffffffe", "");
    assert_true(data_dir_open(&d, p->data, &why));
    assert_int_equal(d.n_wal_files, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const bool first = d.wal_files[i].file == 10;
        assert_int_equal(d.wal_files[i].file, first ? 10 : 0xfffffffe);
        assert_int_equal(d.wal_files[i].length, first ? 10 : 0);
    }
    data_dir_close(&d);
}

static void a_second_process_is_told_who_has_it(void **state)
{
    const struct place *p = *state;
    struct data_dir d, other;
    struct data_dir_error why;
    char pid[16];

    assert_true(data_dir_open(&d, p->data, &why));
    assert_false(data_dir_open(&other, p->data, &why));
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    assert_non_null(strstr(why.text, pid));
    assert_int_equal(why.exit_code, 1);
    data_dir_close(&d);
    assert_true(data_dir_open(&other, p->data, &why));
    data_dir_close(&other);
}

static void a_newer_format_is_refused(void **state)
{
    static const char *const texts[] = {"sennit 2\n", "sennit\n", "", "sennit 1",
                                        "redis 1\n"};
    const struct place *p = *state;
    struct data_dir d;
    struct data_dir_error why;

    assert_true(data_dir_open(&d, p->data, &why));
    data_dir_close(&d);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put_file(p, "FORMAT", texts[i]);
        assert_false(data_dir_open(&d, p->data, &why));
        assert_int_equal(why.exit_code, 2);
        if (i == 0) assert_non_null(strstr(why.text, "newer"));
    }
}

static void a_directory_of_something_else_is_left_alone(void **state)
{
    const struct place *p = *state;
    struct data_dir d;
    struct data_dir_error why;
    char path[256];

    assert_int_equal(mkdir(p->data, 0700), 0);
    put_file(p, "thesis.tex", "x");
    assert_false(data_dir_open(&d, p->data, &why));
    assert_int_equal(why.exit_code, 2);
    snprintf(path, sizeof path, "%s/FORMAT", p->data);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/none/data", p->top);
    assert_false(data_dir_open(&d, path, &why));
    assert_int_equal(why.exit_code, 2);
    snprintf(path, sizeof path, "%s/thesis.tex", p->data);
    assert_false(data_dir_open(&d, path, &why));
    assert_int_equal(why.exit_code, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_directory_is_made_whole),
        TEST(only_log_files_are_listed),
        TEST(a_second_process_is_told_who_has_it),
        TEST(a_newer_format_is_refused),
        TEST(a_directory_of_something_else_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
