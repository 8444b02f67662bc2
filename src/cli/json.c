/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"

#include <stdio.h>

void json_text(FILE *out, struct bytes text)
{
    fputc('"', out);
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.at[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

void json_value(FILE *out, const struct value *v)
{
    if (v == NULL || v->kind == VALUE_NULL) {
        fputs("null", out);
    } else if (v->kind == VALUE_INTEGER) {
        fprintf(out, "%lld", (long long)v->integer);
    } else if (v->kind == VALUE_ARRAY) {
        fputc('[', out);
        for (uint32_t i = 0; i < v->n; i++) {
            if (i > 0) fputc(',', out);
            json_text(out, value_text(value_at(v, i)));
        }
        fputc(']', out);
    } else {
        json_text(out, v->text);
    }
}

void json_map(FILE *out, const struct value *map)
{
    fputc('{', out);
    for (uint32_t i = 0; map->kind == VALUE_ARRAY && i + 1 < map->n; i += 2) {
        if (i > 0) fputc(',', out);
        json_text(out, value_text(value_at(map, i)));
        fputc(':', out);
        json_value(out, value_at(map, i + 1));
    }
    fputc('}', out);
}

void json_field(FILE *out, const char *name, struct bytes text)
{
    json_text(out, bytes_of_str(name));
    fputc(':', out);
    json_text(out, text);
    fputc(',', out);
}

void json_rows(FILE *out, const struct value *rows)
{
    fputc('[', out);
    for (uint32_t i = 0; rows->kind == VALUE_ARRAY && i < rows->n; i++) {
        if (i > 0) fputc(',', out);
        json_map(out, value_at(rows, i));
    }
    fputc(']', out);
}

void json_or_text(FILE *out, bool json, const struct value *reply)
{
    const struct bytes text = value_text(reply);

    if (!json) {
        fprintf(out, "%.*s\n", (int)text.len, (const char *)text.at);
        return;
    }
    fputs("{\"ok\":true,\"text\":", out);
    json_text(out, text);
    fputs("}\n", out);
}
