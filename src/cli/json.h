/* SPDX-License-Identifier: Apache-2.0 */
/* json - replies as JSON. */
#pragma once

#include <stdio.h>

#include "cli/client.h"

void json_text(FILE *out, struct bytes text);
/* A number stays one; of an array the texts of its elements. */
void json_value(FILE *out, const struct value *v);
void json_map(FILE *out, const struct value *map); /* of names and values: an object */
/* "name":"text", with a comma behind it */
void json_field(FILE *out, const char *name, struct bytes text);
void json_rows(FILE *out, const struct value *rows); /* an array of maps */
/* What a command that changes something answers: {"ok":true}, or its text. */
void json_or_text(FILE *out, bool json, const struct value *reply);
