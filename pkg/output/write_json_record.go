package output

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

func (f *jsonFormat) appendRecord(dst []byte, r *record.Record) []byte {
	dst = AppendJSONText(append(dst, `{"type":`...), r.TypeName)
	if r.Type != 0 {
		dst = strconv.AppendUint(append(dst, `,"number":`...), uint64(r.Type), 10)
	}
	if r.Err != nil {
		dst = AppendJSONText(append(dst, `,"error":`...), []byte(r.Err.Error()))
		dst = AppendJSONText(append(dst, `,"raw":`...), r.Raw)
		if !utf8.Valid(r.Raw) {
			dst = append(appendHexText(append(dst, `,"raw_bytes":"`...), r.Raw), '"')
		}
	}
	if r.Type == tables.AVC || r.Type == tables.UserAVC {
		dst = appendVerdict(dst, r.Body)
	}
	dst = f.appendFields(dst, r, "fields", r.Fields())
	dst = f.appendFields(dst, r, "msg", r.MsgFields())
	if f.words {
		dst = f.appendWords(dst, r)
	}
	if r.Enriched != nil {
		dst = f.appendEnriched(dst, r)
	}
	return append(dst, '}')
}

// appendVerdict appends what SELinux says in words: "avc:  denied  { read } for".
func appendVerdict(dst, body []byte) []byte {
	verdict, perms, ok := verdictOf(body)
	if !ok {
		return dst
	}
	dst = AppendJSONText(append(dst, `,"verdict":`...), verdict)
	dst = append(dst, `,"permissions":[`...)
	for i, p := range bytes.Fields(perms) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONText(dst, p)
	}
	return append(dst, ']')
}

// appendFields appends an object of the fields; nothing when there is none.
func (f *jsonFormat) appendFields(dst []byte, r *record.Record, name string, fields record.Fields) []byte {
	f.seen, f.odd = f.seen[:0], f.odd[:0]
	from := len(dst)
	dst = append(append(append(dst, `,"`...), name...), `":{`...)
	for field, ok := fields.Next(); ok; field, ok = fields.Next() {
		if string(field.Name) == "msg" && field.Quote == '\'' && name == "fields" {
			continue // an object of its own
		}
		dst = f.appendField(dst, r, &field)
	}
	if len(f.seen) == 0 {
		return dst[:from]
	}
	dst = append(f.mergeRepeated(dst), '}')
	if len(f.odd) > 0 {
		dst = append(append(append(dst, `,"`...), name...), `_bytes":{`...)
		dst = append(append(dst, f.odd[1:]...), '}')
	}
	return dst
}

// appendField appends "name":value, with a comma before it unless it is the first.
func (f *jsonFormat) appendField(dst []byte, r *record.Record, field *record.Field) []byte {
	if len(f.seen) > 0 {
		dst = append(dst, ',')
	}
	s := span{name: len(dst)}
	dst = append(AppendJSONText(dst, field.Name), ':')
	s.value = len(dst)
	switch kind := interpret.KindOf(r.Type, field.Name); kind {
	case interpret.Escaped, interpret.Account:
		dst = f.appendUntrusted(dst, field)
		if r.Type == tables.Execve && field.Name[0] == 'a' && string(field.Name) != "argc" {
			f.addArgument(field.Name, dst[s.value:])
		}
	case interpret.Key:
		dst = f.appendKeys(dst, field)
	case interpret.Proctitle:
		dst = f.appendProctitle(dst, field)
	default:
		dst = appendJSONValue(dst, field)
		if !utf8.Valid(field.Value) {
			f.noteOdd(field.Name, field.Value)
		}
	}
	s.end = len(dst)
	f.seen = append(f.seen, s)
	return dst
}

// appendJSONValue appends a value that means what it says: a number where the
// field's values are numbers and this is one.
func appendJSONValue(dst []byte, field *record.Field) []byte {
	if field.Quote == 0 && jsonNumbers.has(field.Name) && IsJSONNumber(field.Value) {
		return append(dst, field.Value...)
	}
	return AppendJSONText(dst, field.Value)
}

// appendUntrusted appends a string that a program could choose, decoded; null for
// (null).
func (f *jsonFormat) appendUntrusted(dst []byte, field *record.Field) []byte {
	if field.Quote == 0 && string(field.Value) == "(null)" {
		return append(dst, "null"...)
	}
	f.value = field.AppendDecoded(f.value[:0])
	if !utf8.Valid(f.value) {
		f.noteOdd(field.Name, f.value)
	}
	return AppendJSONText(dst, f.value)
}

// noteOdd keeps the bytes of a value that a JSON string cannot hold.
func (f *jsonFormat) noteOdd(name, value []byte) {
	f.odd = append(f.odd, ',')
	f.odd = append(AppendJSONText(f.odd, name), `:"`...)
	f.odd = append(appendHexText(f.odd, value), '"')
}

// appendKeys appends the list of a rule's keys.
func (f *jsonFormat) appendKeys(dst []byte, field *record.Field) []byte {
	dst = append(dst, '[')
	if field.Quote != 0 || string(field.Value) != "(null)" {
		f.value = field.AppendDecoded(f.value[:0])
		if !utf8.Valid(f.value) {
			f.noteOdd(field.Name, f.value)
		}
		rest, more := f.value, true
		for n := 0; more; n++ {
			var key []byte
			key, rest, more = bytes.Cut(rest, []byte{1})
			if n > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSONText(dst, key)
			f.addKey(key)
		}
	}
	return append(dst, ']')
}

func (f *jsonFormat) addKey(key []byte) {
	for _, k := range f.keys {
		if bytes.Equal(k, key) {
			return
		}
	}
	from := len(f.keyBuf)
	f.keyBuf = append(f.keyBuf, key...)
	f.keys = append(f.keys, f.keyBuf[from:len(f.keyBuf):len(f.keyBuf)])
}

// appendProctitle appends a command line as the list of its words.
func (f *jsonFormat) appendProctitle(dst []byte, field *record.Field) []byte {
	f.value = field.AppendDecoded(f.value[:0])
	if !utf8.Valid(f.value) {
		f.noteOdd(field.Name, f.value)
	}
	dst = append(dst, '[')
	rest := bytes.TrimSuffix(f.value, []byte{0})
	for n, more := 0, true; more; n++ {
		var word []byte
		word, rest, more = bytes.Cut(rest, []byte{0})
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONText(dst, word)
	}
	return append(dst, ']')
}

// addArgument adds one of EXECVE's arguments, which is a JSON string already. One
// that was too long comes in pieces: a1_len=9000 a1[0]=… a1[1]=….
func (f *jsonFormat) addArgument(name, text []byte) {
	if text[0] != '"' {
		return // null
	}
	if i := bytes.IndexByte(name, '['); i >= 0 && string(name[i:]) != "[0]" && len(f.argv) > 0 {
		f.argv = append(f.argv[:len(f.argv)-1], text[1:]...)
		return
	}
	f.argv = append(append(f.argv, ','), text...)
}

// mergeRepeated makes one list of the values of a name that an object has more
// than once.
func (f *jsonFormat) mergeRepeated(dst []byte) []byte {
	repeated := func(i int) bool {
		a := f.seen[i]
		for _, b := range f.seen[:i] {
			if string(dst[a.name:a.value]) == string(dst[b.name:b.value]) {
				return true
			}
		}
		return false
	}
	any := false
	for i := range f.seen {
		if any = repeated(i); any {
			break
		}
	}
	if !any {
		return dst
	}
	from := f.seen[0].name
	f.value = f.value[:0]
	for i, a := range f.seen {
		if repeated(i) {
			continue
		}
		if len(f.value) > 0 {
			f.value = append(f.value, ',')
		}
		f.value = append(f.value, dst[a.name:a.value]...)
		at := len(f.value)
		f.value = append(f.value, dst[a.value:a.end]...)
		n := 1
		for _, b := range f.seen[i+1:] {
			if string(dst[a.name:a.value]) != string(dst[b.name:b.value]) {
				continue
			}
			if n == 1 {
				f.value = append(f.value, 0)
				copy(f.value[at+1:], f.value[at:])
				f.value[at] = '['
			}
			f.value = append(append(f.value, ','), dst[b.value:b.end]...)
			n++
		}
		if n > 1 {
			f.value = append(f.value, ']')
		}
	}
	return append(dst[:from], f.value...)
}

// appendWords appends what the values mean, where that is not what they say.
func (f *jsonFormat) appendWords(dst []byte, r *record.Record) []byte {
	f.seen = f.seen[:0]
	from := len(dst)
	dst = append(dst, `,"words":{`...)
	for _, fields := range [...]record.Fields{r.Fields(), r.MsgFields()} {
		for field, ok := fields.Next(); ok; field, ok = fields.Next() {
			switch interpret.KindOf(r.Type, field.Name) {
			case interpret.Plain, interpret.Escaped, interpret.Account, interpret.Key, interpret.Proctitle, interpret.Label, interpret.Addr:
				continue
			}
			f.value = f.in.AppendValue(f.value[:0], r, field)
			if bytes.Equal(f.value, field.Value) {
				continue
			}
			if len(f.seen) > 0 {
				dst = append(dst, ',')
			}
			s := span{name: len(dst)}
			dst = append(AppendJSONText(dst, field.Name), ':')
			s.value = len(dst)
			dst = AppendJSONText(dst, bytes.TrimSpace(f.value))
			s.end = len(dst)
			f.seen = append(f.seen, s)
		}
	}
	if len(f.seen) == 0 {
		return dst[:from]
	}
	return append(f.mergeRepeated(dst), '}')
}

var idSuffix = []byte("ID")

// appendEnriched appends what the host itself said that the values mean.
func (f *jsonFormat) appendEnriched(dst []byte, r *record.Record) []byte {
	f.seen, f.odd = f.seen[:0], f.odd[:0]
	from := len(dst)
	dst = append(dst, `,"enriched":{`...)
	fields := r.EnrichedFields()
	for field, ok := fields.Next(); ok; field, ok = fields.Next() {
		if len(f.seen) > 0 {
			dst = append(dst, ',')
		}
		s := span{name: len(dst)}
		dst = append(AppendJSONText(dst, field.Name), ':')
		s.value = len(dst)
		value := field.Value
		if bytes.HasSuffix(field.Name, idSuffix) { // a name with a space is in hex
			f.value = field.AppendDecoded(f.value[:0])
			value = f.value
		}
		dst = AppendJSONText(dst, value)
		s.end = len(dst)
		f.seen = append(f.seen, s)
		if !utf8.Valid(value) {
			f.noteOdd(field.Name, value)
		}
	}
	if len(f.seen) == 0 {
		return dst[:from]
	}
	dst = append(f.mergeRepeated(dst), '}')
	if len(f.odd) > 0 {
		dst = append(append(append(dst, `,"enriched_bytes":{`...), f.odd[1:]...), '}')
	}
	return dst
}
