package api

import (
	"encoding/binary"
	"fmt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// maxText is the longest text of an event whose length fits into a message.
const maxText = 1<<31 - 1

// sendTexts sends some events of the answer to q, of which it copies the text, in as many messages as
// that takes.
func sendTexts(c *call, q *query.Query, t query.Texts, out func(*fleet.Texts) error) error {
	own, ok := t.(*store.Texts)
	if !ok {
		return fmt.Errorf("texts of another kind: %T", t)
	}
	for list := own.List; len(list) > 0; {
		n, size := 0, 0
		for n < len(list) && (n == 0 || size+len(list[n].Text) <= 2*packBytes) {
			size += len(list[n].Text)
			n++
		}
		msg := toTexts(list[:n], size, q.Origin)
		if err := c.send(func() error { return out(msg) }); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// toTexts makes a message of events whose texts have so many bytes together.
func toTexts(list []store.Found, size int, origins bool) *fleet.Texts {
	out := &fleet.Texts{Text: make([]byte, 0, size), Sizes: make([]uint32, 0, len(list)), Host: make([]uint32, 0, len(list))}
	hosts, senders := map[string]uint32{}, map[*event.Sender]uint32{}
	last, at := "", uint32(0) // most are of the host of the one before, or all are of a few
	for i := range list {
		f := &list[i]
		if len(f.Text) > maxText {
			continue // no event is so large
		}
		host := f.Host
		if host == "" {
			host = f.Node
		}
		if len(out.Hosts) == 0 || host != last {
			n, ok := hosts[host]
			if !ok {
				n = uint32(len(out.Hosts))
				hosts[host] = n
				out.Hosts = append(out.Hosts, []byte(host))
			}
			last, at = host, n
		}
		size := uint32(len(f.Text)) << 1
		if f.Counted {
			size |= 1
		}
		out.Text = append(out.Text, f.Text...)
		out.Sizes, out.Host = append(out.Sizes, size), append(out.Host, at)
		if !origins {
			continue
		}
		n := uint32(0)
		if f.From != nil {
			if n = senders[f.From]; n == 0 {
				out.Senders = append(out.Senders, toSender(f.From))
				n = uint32(len(out.Senders))
				senders[f.From] = n
			}
		}
		out.Sender = append(out.Sender, n)
		out.Receipts = appendReceipt(out.Receipts, f)
	}
	return out
}

// appendReceipt appends when the event's records were received.
func appendReceipt(dst []byte, f *store.Found) []byte {
	ms := f.Received
	if !f.ByTime {
		if ms == 0 {
			return append(dst, 1, 0) // that is not known
		}
		ms -= f.Ms
	}
	v := uint64(ms<<1) ^ uint64(ms>>63)
	if f.Later == "" {
		return binary.AppendUvarint(dst, v<<1)
	}
	dst = binary.AppendUvarint(dst, v<<1|1)
	dst = binary.AppendUvarint(dst, uint64(len(f.Later)))
	return append(dst, f.Later...)
}

// readReceipt is the reverse of appendReceipt, and returns the bytes behind it.
func readReceipt(f *store.Found, b []byte) ([]byte, error) {
	v, k := binary.Uvarint(b)
	if k <= 0 {
		return nil, fmt.Errorf("%w: receipts end early", errResponse)
	}
	b = b[k:]
	gap := v >> 1
	f.Received, f.ByTime = int64(gap>>1)^-int64(gap&1), true
	if v&1 == 0 {
		return b, nil
	}
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, fmt.Errorf("%w: receipts end early", errResponse)
	}
	if n == 0 {
		f.Received, f.ByTime = 0, false
	}
	f.Later = string(b[k : k+int(n)])
	return b[k+int(n):], nil
}

// fromTexts is the reverse of toTexts; it trusts nothing. The events refer to the message's bytes.
func fromTexts(t *fleet.Texts) (*store.Texts, error) {
	senders, err := fromSenders(t.GetSenders())
	if err != nil {
		return nil, err
	}
	text, sizes, receipts := t.GetText(), t.GetSizes(), t.GetReceipts()
	if len(t.GetHost()) != len(sizes) || len(t.GetSender()) != 0 && len(t.GetSender()) != len(sizes) {
		return nil, fmt.Errorf("%w: %d texts of %d hosts and %d senders", errResponse, len(sizes), len(t.GetHost()), len(t.GetSender()))
	}
	hosts := make([]string, len(t.GetHosts()))
	for i, h := range t.GetHosts() {
		hosts[i] = string(h)
	}
	list := make([]store.Found, len(sizes))
	for i, size := range sizes {
		f, n, counted := &list[i], int(size>>1), size&1 != 0
		if n > len(text) || int(t.GetHost()[i]) >= len(hosts) {
			return nil, fmt.Errorf("%w: a text of %d bytes in %d, of host %d of %d", errResponse, n, len(text), t.GetHost()[i], len(hosts))
		}
		f.Host, f.Text, f.Counted = hosts[t.GetHost()[i]], text[:n:n], counted
		if f.Node, text = f.Host, text[n:]; !wellFormed(f.Text, counted) {
			return nil, fmt.Errorf("%w: a text of %d bytes", errResponse, n)
		}
		if len(t.GetSender()) == 0 {
			continue
		}
		if n := t.GetSender()[i]; uint64(n) > uint64(len(senders)) {
			return nil, fmt.Errorf("%w: sender %d of %d", errResponse, n, len(senders))
		} else if n > 0 {
			f.From = &senders[n-1]
		}
		if receipts, err = readReceipt(f, receipts); err != nil {
			return nil, err
		}
	}
	if len(text) > 0 || len(receipts) > 0 {
		return nil, fmt.Errorf("%w: %d bytes of text and %d of receipts too many", errResponse, len(text), len(receipts))
	}
	return &store.Texts{List: list}, nil
}

// wellFormed reports whether b is one event's text and nothing else. Of a plain one its end is looked
// at: wherever its lines end, they are read as records.
func wellFormed(b []byte, counted bool) bool {
	if !counted {
		return len(b) > 1 && b[len(b)-1] == '\n' && b[len(b)-2] == '\n'
	}
	_, rest, err := store.CutText(b, true)
	return err == nil && len(rest) == 0
}
