package clickhouse

import "strings"

var escapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)

// quote writes a text as SQL has it: any bytes but a quote and a backslash stand for themselves.
func quote(text string) string { return "'" + escapes.Replace(text) + "'" }

// quoteAll writes a list of texts.
func quoteAll(list []string) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = quote(v)
	}
	return strings.Join(out, ", ")
}
