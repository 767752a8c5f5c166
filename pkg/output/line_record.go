package output

import (
	"bytes"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// appendRecord appends what a record tells by itself. of is how the system call went that
// it belongs to, for a record that does not say.
func (f *lineFormat) appendRecord(dst []byte, r *record.Record, of outcome) []byte {
	switch {
	case r.Err != nil:
		return f.appendDamaged(dst, r)
	case isDecision(r.Type):
		return f.appendDecision(dst, r)
	}
	o := f.outcomeOf(r)
	if o == unknownOutcome {
		o = of
	}
	switch r.Type {
	case tables.Login:
		return f.appendLogin(dst, r, o)
	case tables.ConfigChange:
		return f.appendConfigChange(dst, r, o)
	case tables.Seccomp:
		return f.appendSeccomp(dst, r)
	case tables.AnomPromiscuous:
		words := [2]string{"put %s into promiscuous mode", "took %s out of promiscuous mode"}
		prom, _ := f.own(r, "prom")
		before, after, _ := strings.Cut(words[boolIndex(string(prom.Value) == "0")], "%s")
		dst = append(dst, before...)
		if dev, ok := f.own(r, "dev"); ok {
			dst = f.appendValue(dst, r, &dev)
		} else {
			dst = append(dst, "a device"...)
		}
		return append(dst, after...)
	case tables.DaemonErr:
		if told, ok := f.appendLoss(dst, r); ok {
			return told
		}
	case tables.IntegrityData, 1801, 1803:
		return f.appendIntegrity(dst, r, o)
	case tables.LandlockDomain:
		return f.appendLandlockDomain(dst, r)
	case tables.Kernel:
		return f.appendKernel(dst, r)
	case tables.UserChauthtok:
		if bytes.HasPrefix(operation(r), []byte("PAM:")) {
			return f.appendPhrase(dst, r, o, "changed the password|change the password|[ of <acct,id>]")
		}
	case tables.User:
		return f.appendMessage(dst, r)
	case softwareUpdate:
		return f.appendSoftware(dst, r, o)
	}
	if rest, ok := operations[r.Type]; ok {
		return f.appendOperation(dst, r, o, rest)
	}
	if text, ok := phrases[r.Type]; ok {
		return f.appendPhrase(dst, r, o, text)
	}
	return f.appendFields(dst, r, o)
}

func boolIndex(b bool) int {
	if b {
		return 1
	}
	return 0
}

// softwareUpdate is the type SOFTWARE_UPDATE.
const softwareUpdate uint16 = 1138

// appendPhrase appends a phrase of the table, filled with r's fields.
func (f *lineFormat) appendPhrase(dst []byte, r *record.Record, o outcome, text string) []byte {
	done, rest, _ := strings.Cut(text, "|")
	try, rest, ok := strings.Cut(rest, "|")
	if !ok {
		dst, rest = append(dst, done...), try
		f.bad = f.bad || o == failed
	} else {
		dst = f.phraseVerb(dst, o, done, try)
	}
	for rest != "" {
		before, optional, more := strings.Cut(rest, "[")
		dst, _ = f.appendFilled(dst, r, before)
		if !more {
			break
		}
		optional, rest, _ = strings.Cut(optional, "]")
		from := len(dst)
		if filled, whole := f.appendFilled(dst, r, optional); whole {
			dst = filled
		} else {
			dst = dst[:from]
		}
	}
	return dst
}

// phraseVerb is verb, but that ! begins what is said as it is where something failed.
func (f *lineFormat) phraseVerb(dst []byte, o outcome, done, try string) []byte {
	if refused, ok := strings.CutPrefix(try, "!"); ok && o == failed {
		f.bad = true
		return append(dst, refused...)
	}
	return f.verb(dst, o, done, strings.TrimPrefix(try, "!"))
}

// appendFilled appends text with values in place of <name,other name>; not whole where r
// has none of the names.
func (f *lineFormat) appendFilled(dst []byte, r *record.Record, text string) (_ []byte, whole bool) {
	for text != "" {
		before, rest, ok := strings.Cut(text, "<")
		dst = append(dst, before...)
		if !ok {
			return dst, true
		}
		var names string
		names, text, _ = strings.Cut(rest, ">")
		found := false
		for name := range strings.SplitSeq(names, ",") {
			if name == "op" {
				if op := operation(r); len(op) > 0 {
					dst, found = append(dst, terminalText(op)...), true
					break
				}
				continue
			}
			if field, ok := f.said(r, name); ok {
				dst, found = f.appendValue(dst, r, &field), true
				break
			}
		}
		if !found {
			return dst, false
		}
	}
	return dst, true
}

// operation is what op= says, all of it: programs write several words there without quotes,
// up to the next field.
func operation(r *record.Record) []byte {
	text := r.Msg()
	if text == nil {
		text = r.Body
	}
	i := bytes.Index(text, []byte("op="))
	for i > 0 && text[i-1] != ' ' && text[i-1] != '\'' {
		j := bytes.Index(text[i+1:], []byte("op="))
		if j < 0 {
			return nil
		}
		i += 1 + j
	}
	if i < 0 {
		return nil
	}
	text = text[i+len("op="):]
	if len(text) > 0 && text[0] == '"' {
		value, _, _ := bytes.Cut(text[1:], []byte{'"'})
		return value
	}
	if eq := bytes.IndexByte(text, '='); eq >= 0 {
		text = text[:max(0, bytes.LastIndexByte(text[:eq], ' '))]
	}
	text = bytes.TrimSpace(text)
	if string(text) == "?" {
		return nil
	}
	return text
}

// terminalText is text within a sentence: without what a terminal obeys, and bounded.
func terminalText(text []byte) []byte {
	if quoteOf(bytes.ReplaceAll(text, []byte{' '}, nil)) != dollar && len(text) <= longestArgument {
		return text
	}
	return appendQuoted(nil, text, longestArgument)
}

// appendFields appends the record's type and those of its fields that the line does not
// say elsewhere.
func (f *lineFormat) appendFields(dst []byte, r *record.Record, o outcome) []byte {
	if f.bad = f.bad || o == failed; o == failed {
		dst = append(dst, "failed: "...)
	}
	dst = append(dst, terminalText(typeNameOf(r))...)
	from, n := len(dst), 0
	for _, fields := range [...]record.Fields{r.Fields(), r.MsgFields()} {
		for field, ok := fields.Next(); ok; field, ok = fields.Next() {
			if saidElsewhere(string(field.Name)) || string(field.Name) == "msg" || !hasValue(&field) {
				continue
			}
			n++
			if len(dst)-from > longestCommand {
				continue
			}
			dst = append(appendQuoted(append(dst, ' '), field.Name, longestArgument), '=')
			dst = f.appendValue(dst, r, &field)
			from += max(0, len(dst)-from-longestCommand) // one long value does not hide the next
		}
	}
	if n == 0 && len(bytes.TrimSpace(r.Body)) > 0 {
		dst = append(append(dst, ' '), terminalText(bytes.TrimSpace(r.Body))...)
	}
	return dst
}

// typeNameOf is the type's name; a record may have only its number.
func typeNameOf(r *record.Record) []byte {
	if r.Type != 0 {
		return []byte(tables.TypeName(r.Type))
	}
	return r.TypeName
}

// saidElsewhere says whether a field is about who, by which program, from where or how it
// went.
func saidElsewhere(name string) bool {
	switch name {
	case "pid", "ppid", "auid", "uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid", "ses", "tty", "terminal", "subj",
		"exe", "comm", "hostname", "addr", "res", "result", "success", "type":
		return true
	}
	return false
}

func (f *lineFormat) appendDamaged(dst []byte, r *record.Record) []byte {
	f.bad = true
	return appendQuoted(append(dst, "damaged record: "...), r.Raw, longestCommand)
}

// appendIncomplete appends what is left of an event whose SYSCALL record is missing.
func (f *lineFormat) appendIncomplete(dst []byte) []byte {
	f.call = ""
	dst = append(dst, "did something that its records do not say:"...)
	for i := range f.records {
		r := &f.records[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, ' ')
		switch {
		case r.Type == tables.Path:
			dst = f.appendPath(append(dst, "PATH "...), r, "")
		case auxiliary(r.Type):
			dst = f.appendFields(dst, r, unknownOutcome)
		default:
			dst = f.appendRecord(dst, r, unknownOutcome)
		}
	}
	return dst
}
