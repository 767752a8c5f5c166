package output

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// appendDecision appends the result of an event for which csv has none.
func appendDecision(dst []byte, records []record.Record) []byte {
	if success, ok := decision(records); ok {
		dst = strconv.AppendBool(append(dst, `,"success":`...), success)
	}
	return dst
}

// decision is the result of an event for which csv has none: what SELinux or AppArmor
// decided, the first of several decisions, or what the program that wrote one says beside
// it. ok is false where there is none, or another record says a result.
func decision(records []record.Record) (success, ok bool) {
	for i := range records {
		r := &records[i]
		if r.Type != tables.AVC && r.Type != tables.UserAVC {
			continue
		}
		if granted, decided := decisionOf(r); decided && !ok {
			success, ok = granted, true
		}
		if r.Type != tables.UserAVC {
			continue
		}
		if f, said := resultIn(r.MsgFields()); said {
			success, ok = !bytes.HasPrefix(f.Value, []byte("failed")), true
		}
	}
	if !ok {
		return false, false
	}
	for i := range records {
		if r := &records[i]; r.Type != tables.AVC && r.Type != tables.UserAVC {
			_, here := resultIn(r.Fields())
			_, inside := resultIn(r.MsgFields())
			ok = ok && !here && !inside
		}
	}
	return success, ok
}

// decisionOf is what one record's security module decided.
func decisionOf(r *record.Record) (granted, ok bool) {
	if verdict, _, ok := verdictOf(r.Body); ok {
		return !bytes.Contains(verdict, []byte("denied")), true
	}
	if r.Type != tables.AVC {
		return false, false
	}
	f, _ := r.Get("apparmor")
	switch string(f.Value) {
	case "ALLOWED", "AUDIT":
		return true, true
	case "DENIED":
		return false, true
	}
	return false, false
}

// resultIn is the first of some fields that says a result.
func resultIn(fields record.Fields) (record.Field, bool) {
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "success", "res", "result":
			return f, true
		}
	}
	return record.Field{}, false
}
