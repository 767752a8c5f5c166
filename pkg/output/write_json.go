package output

import (
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/normalize"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// jsonFormat writes one JSON object in one line for each event (JSON.md).
type jsonFormat struct {
	norm  *normalize.Normalizer
	in    *interpret.Interpreter
	words bool

	value  []byte   // scratch: one value, decoded
	odd    []byte   // "name":"hex" of the values of an object that are no UTF-8
	seen   []span   // fields of an object, where they stand in the output
	argv   []byte   // the arguments so far, each behind its length
	keys   [][]byte // of the event
	keyBuf []byte
}

// span is the place of a field in the output: where its name begins, where its value
// begins, and its end.
type span struct{ name, value, end int }

func newJSONFormat(o *Config) *jsonFormat {
	names := o.Names
	if names == nil {
		names = nss.New(nss.Config{})
	}
	in := interpret.New(interpret.Config{Names: names, Escape: interpret.EscapeRaw})
	return &jsonFormat{norm: normalize.New(in, nil), in: in, words: o.Words}
}

// ofHost has ids and accounts taken for those of the event's host.
func ofHost(in *interpret.Interpreter, norm *normalize.Normalizer, ev *event.Event) {
	accounts, _ := in.Host(ev.Node).(normalize.Accounts)
	norm.SetAccounts(accounts)
}

// appendRFC3339 appends the time of ms as a string; a damaged record can name a year that RFC 3339 cannot write, which is null.
func appendRFC3339(dst []byte, ms int64) []byte {
	at := time.UnixMilli(ms).UTC()
	if year := at.Year(); year < 0 || year > 9999 {
		return append(dst, "null"...)
	}
	return at.AppendFormat(dst, `"2006-01-02T15:04:05.000Z"`)
}

func (*jsonFormat) Head(dst []byte) []byte { return dst }

func (f *jsonFormat) Append(dst []byte, ev *event.Event) []byte {
	f.in.Refresh()
	ofHost(f.in, f.norm, ev)
	dst = appendRFC3339(append(dst, `{"time":`...), ev.Ms)
	dst = strconv.AppendInt(append(dst, `,"ms":`...), ev.Ms, 10)
	dst = strconv.AppendUint(append(dst, `,"serial":`...), ev.Serial, 10)
	if node := claimed(ev); node != nil {
		dst = AppendJSONText(append(dst, `,"node":`...), node)
	}
	dst = appendOrigin(dst, ev)
	f.argv, f.keys, f.keyBuf = f.argv[:0], f.keys[:0], f.keyBuf[:0]
	dst = f.appendTold(dst, ev)
	dst = append(dst, `,"records":[`...)
	for i := range ev.Records {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = f.appendRecord(dst, &ev.Records[i])
		if at := ev.Records[i].Received; at != 0 && at != ev.Records[0].Received {
			dst = append(appendRFC3339(append(dst[:len(dst)-1], `,"received":`...), at), '}')
		}
	}
	dst = append(dst, ']')
	if len(f.keys) > 0 {
		dst = append(dst, `,"keys":[`...)
		for i, key := range f.keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSONText(dst, key)
		}
		dst = append(dst, ']')
	}
	if len(f.argv) > 0 {
		dst = append(append(append(dst, `,"argv":[`...), f.argv[1:]...), ']')
	}
	return append(dst, '}', '\n')
}

// claimed returns the node= of an event's records: of what a collector stored the first one
// that is not the host's name, if there is one. A record that a collector stored without
// node= has its host as Node, which it does not claim to be.
func claimed(ev *event.Event) []byte {
	if ev.From == nil {
		return ev.Node
	}
	if other := ev.Claim(); other != nil || len(ev.Records) == 0 {
		return other
	}
	var r record.Record
	_ = r.Parse(ev.Records[0].Raw) // what names the host stands before what may be damaged
	return r.Node
}

// appendOrigin appends what the collector that received an event knows of it.
func appendOrigin(dst []byte, ev *event.Event) []byte {
	if from := ev.From; from != nil {
		host := ev.Node
		if from.Host != "" && host == nil {
			host = []byte(from.Host)
		}
		dst = AppendJSONText(append(dst, `,"host":`...), host)
		if from.Host != "" {
			dst = append(dst, `,"verified":true`...)
		}
		if ev.Mismatch() {
			dst = append(dst, `,"mismatch":true`...)
		}
		if from.Addr.IsValid() {
			dst = append(from.Addr.AppendTo(append(dst, `,"from":"`...)), '"')
		}
	}
	if len(ev.Records) > 0 && ev.Records[0].Received != 0 {
		at := ev.Records[0].Received
		dst = appendRFC3339(append(dst, `,"received":`...), at)
		if event.IsFarFuture(ev.Ms, at) {
			dst = append(dst, `,"future":true`...)
		}
	}
	return dst
}

// appendTold appends what package normalize makes of the event.
func (f *jsonFormat) appendTold(dst []byte, ev *event.Event) []byte {
	first, _ := normalize.Next(ev.Records)
	n := f.norm
	if len(first) == 0 || !n.Event(first, true) {
		return appendDecision(dst, ev.Records)
	}
	dst = append(AppendJSONText(append(dst, `,"kind":`...), []byte(n.Kind)), `,"action":`...)
	if n.Action == nil {
		dst = append(dst, `null`...)
	} else {
		dst = AppendJSONText(dst, n.Action)
	}
	if success, ok := n.Outcome(); ok {
		dst = strconv.AppendBool(append(dst, `,"success":`...), success)
	} else {
		dst = appendDecision(dst, ev.Records)
	}
	text := func(name string, v normalize.Value) {
		if n.Has(v) {
			f.value = n.AppendFull(f.value[:0], v)
			dst = append(append(append(dst, `,"`...), name...), `":`...)
			dst = AppendJSONText(dst, f.value)
		}
	}
	text("subject", n.Subject)
	text("acting_as", n.Alias)
	word := func(name, s string) {
		if s != "" && s != "unknown" {
			dst = append(append(append(dst, `,"`...), name...), `":`...)
			dst = AppendJSONText(dst, []byte(s))
		}
	}
	word("subject_kind", n.SubjectKind)
	text("subject_label", n.SubjectLabel())
	if addr, ok := f.objectSocket(); ok {
		dst = appendSocket(dst, &addr)
	} else {
		text("object", n.Object)
		if f.value = n.AppendProcesses(f.value[:0]); len(f.value) > 0 {
			dst = AppendJSONText(append(dst, `,"object":`...), f.value)
		}
	}
	text("object2", n.Second)
	word("object_kind", n.ObjectKind)
	text("object_label", n.ObjectLabel())
	if n.How != nil {
		dst = AppendJSONText(append(dst, `,"how":`...), n.How)
	}
	return dst
}

// objectSocket is the object's address where the object is one.
func (f *jsonFormat) objectSocket() (addr interpret.Socket, ok bool) {
	if f.norm.Is(f.norm.Object) != interpret.SockAddr {
		return addr, false
	}
	return interpret.ParseSocket(f.norm.Raw(f.norm.Object))
}

// appendSocket appends an address as the object, and its parts.
func appendSocket(dst []byte, addr *interpret.Socket) []byte {
	var buf [128]byte
	dst = AppendJSONText(append(dst, `,"object":`...), addr.Append(buf[:0]))
	if name := addr.Family(); name != "" {
		dst = AppendJSONText(append(dst, `,"object_family":`...), []byte(name))
	}
	if text := addr.AppendAddress(buf[:0]); len(text) > 0 {
		dst = AppendJSONText(append(dst, `,"object_address":`...), text)
	}
	if port, ok := addr.Port(); ok {
		dst = strconv.AppendUint(append(dst, `,"object_port":`...), uint64(port), 10)
	}
	return dst
}
