package interpret

import (
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// words are what small numbers mean, in their order.
type words []string

// nameOf returns what v means, "unknown" when it is none of the numbers.
func (w words) nameOf(v []byte) string {
	if len(v) == 1 && int(v[0]-'0') < len(w) {
		return w[v[0]-'0']
	}
	return "unknown"
}

// A program that decides what is done with files says by which rule, and whether it trusts
// subject and object (FANOTIFY records).
var (
	trusts   = words{"no", "yes"} // 2 is that it does not know
	fanTypes = words{"none", "rule_info"}
)

// appendFanInfo appends the number of the rule, where that is what fan_type= says it is.
func appendFanInfo(dst []byte, r *record.Record, v []byte) []byte {
	if f, ok := r.Get("fan_type"); ok && string(f.Value) == "1" {
		if n, ok := number(v, 16); ok {
			return strconv.AppendUint(dst, n, 10)
		}
		return appendConversion(dst, v)
	}
	return append(dst, v...)
}
