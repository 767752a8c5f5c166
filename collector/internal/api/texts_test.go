package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// oddEvents are some of several hosts and senders, received at different times, with odd bytes and
// records among them that cannot be written as lines.
func oddEvents(n int) (all []*event.Event) {
	r := rand.New(rand.NewPCG(5, 6))
	from := []*event.Sender{nil, {Addr: netip.MustParseAddr("192.0.2.7"), Transport: 2}, {Host: "web1", Addr: netip.MustParseAddr("2001:db8::1"), Transport: 3}}
	for i := range n {
		ev := newEvent([]string{"web1", "\xff\x00host", ""}[i%3],
			fmt.Sprintf("type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e key=\"k\"\x1dARCH=x86_64", i%1000, i),
			fmt.Sprintf("type=PATH msg=audit(1700000000.%03d:%d): name=\"%s\"", i%1000, i, strings.Repeat("\xfe", r.IntN(200))),
			[]string{"", "one\nand one", "type=EOE msg=audit(1700000000.000:1): "}[r.IntN(3)])
		if len(ev.Node) > 0 { // else it would go by its address
			ev.From = from[r.IntN(3)]
		}
		if r.IntN(4) > 0 {
			for k := range ev.Records {
				ev.Records[k].Received = 1700000000_000 + int64(r.IntN(9)-3) + int64(r.IntN(2)*k)
			}
		}
		all = append(all, ev)
	}
	return all
}

// whole is an event with all that an answer with origins has of it.
func whole(ev *event.Event) string {
	out := flat(ev)
	if ev.From != nil {
		out += fmt.Sprintf(" from %+v", *ev.From)
	}
	for i := range ev.Records {
		out += fmt.Sprintf(" %d", ev.Records[i].Received)
	}
	return out
}

func TestTextsArriveAsTheyAre(t *testing.T) {
	src := &fakeSource{events: append(oddEvents(3000), newEvent("x", strings.Repeat("long", 500000)))}
	t.Run("by a socket", func(t *testing.T) { textsArrive(t, src, dial(t, serve(t, src, Allowed{GID: -1}))) })
	t.Run("packed", func(t *testing.T) {
		c := dial(t, serve(t, src, Allowed{GID: -1}))
		c.local = false
		textsArrive(t, src, c)
	})
	t.Run("by a collector that cannot pack", func(t *testing.T) {
		before := func(req *fleet.SearchRequest) { req.Packed = false }
		textsArrive(t, src, dial(t, serveAs(t, &olderService{Service{Source: src}, before}, Allowed{GID: -1})))
	})
}

func textsArrive(t *testing.T, src *fakeSource, c *Client) {
	for _, origin := range []bool{false, true} {
		var got, want []string
		for _, ev := range src.events {
			if origin {
				want = append(want, whole(ev))
			} else {
				want = append(want, flat(ev))
			}
		}
		err := c.ScanText(context.Background(), &query.Query{Origin: origin}, func(texts query.Texts) error {
			n := texts.Len()
			if err := texts.Open(); err != nil || texts.Len() != n {
				return fmt.Errorf("%d events, and once opened %d: %w", n, texts.Len(), err)
			}
			var ev event.Event
			for i := range texts.Len() {
				texts.Event(i, &ev)
				if origin {
					got = append(got, whole(&ev))
				} else {
					got = append(got, flat(&ev))
				}
				var raw string
				for k := range ev.Records {
					raw += string(ev.Records[k].Raw) + "\n"
				}
				if out := string(texts.AppendRaw(nil, i)); out != raw {
					t.Fatalf("records %q, and as text %q", raw, out)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events with origins %v (-sent +got):\n%s", origin, diff)
		}
	}
}

// Of a damaged store the texts that can be read are given, and then the error; and who asks ends it.
func TestTextsEnd(t *testing.T) {
	src := &fakeSource{events: oddEvents(10), err: fmt.Errorf("day 1: %w", store.ErrDamaged)}
	c := dial(t, serve(t, src, Allowed{GID: -1}))
	n := 0
	err := c.ScanText(context.Background(), &query.Query{}, func(texts query.Texts) error { n += texts.Len(); return nil })
	if n != 10 || !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "day 1") {
		t.Errorf("%d events, %v", n, err)
	}
	mine := errors.New("mine")
	if err := c.ScanText(context.Background(), &query.Query{}, func(query.Texts) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the caller's own error became %v", err)
	}
	for _, q := range []*query.Query{{Batches: true}, {After: &query.Cursor{}}} {
		if err := c.ScanText(context.Background(), q, func(query.Texts) error { return nil }); !errors.Is(err, ErrQuery) {
			t.Errorf("a page as text: %v", err)
		}
	}
}

// A collector that does not know texts answers with events, which the client takes for the same.
func TestTextsOfAnOlderCollector(t *testing.T) {
	src := &fakeSource{events: oddEvents(50)}
	before := func(req *fleet.SearchRequest) { req.Texts = false }
	textsArrive(t, src, dial(t, serveAs(t, &olderService{Service{Source: src}, before}, Allowed{GID: -1})))
}

// olderService does not know some of a request.
type olderService struct {
	Service
	before func(*fleet.SearchRequest)
}

func (o *olderService) Search(req *fleet.SearchRequest, stream fleet.Query_SearchServer) error {
	o.before(req)
	return o.Service.Search(req, stream)
}

// A block that is not what the sizes say is refused, and before memory is taken for it.
func TestPackedTextsOfAnotherSize(t *testing.T) {
	list := []store.Found{store.FoundOf(newEvent("a", "type=A msg=audit(1.000:1): "+strings.Repeat("x", 600)))}
	p := textPacker{packed: true}
	made := func() *fleet.Texts {
		all, err := p.messages(&store.Texts{List: list})
		if err != nil || len(all[0].Texts.GetPacked()) == 0 || len(all[0].Texts.GetText()) > 0 || len(all[0].Pieces) > 0 {
			t.Fatalf("%v: %v", all, err)
		}
		return all[0].Texts
	}
	if _, err := (&textMemory{}).open(made()); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*fleet.Texts){
		"a size less": func(m *fleet.Texts) { m.Sizes[0] -= 2 },
		"a size more": func(m *fleet.Texts) { m.Sizes[0] += 2 },
		"beyond a message": func(m *fleet.Texts) {
			m.Sizes[0] = 2 * (MaxMessage + 1)
			m.Packed = binary.AppendUvarint(nil, MaxMessage+1)
		},
		"cut":      func(m *fleet.Texts) { m.Packed = m.Packed[:len(m.Packed)-1] },
		"no block": func(m *fleet.Texts) { m.Packed = []byte{0xff} },
	} {
		m := made()
		change(m)
		if _, err := (&textMemory{}).open(m); !errors.Is(err, errResponse) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzTexts: whatever a collector sends is an error or events, and never a panic.
func FuzzTexts(f *testing.F) {
	var list []store.Found
	for _, ev := range oddEvents(5) {
		list = append(list, store.FoundOf(ev))
	}
	for _, p := range []textPacker{{origins: true}, {origins: true, packed: true}} {
		list, err := p.messages(&store.Texts{List: list})
		if err != nil {
			f.Fatal(err)
		}
		list[0].Texts.Text = bytes.Join(list[0].Pieces, nil)
		msg, err := proto.Marshal(list[0].Texts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var msg fleet.Texts
		if proto.Unmarshal(b, &msg) != nil {
			return
		}
		texts := received{SearchResponse: &fleet.SearchResponse{Texts: &msg}}
		if texts.Open() != nil {
			return
		}
		var ev event.Event
		for i := range texts.Len() {
			texts.Event(i, &ev)
			_ = texts.AppendRaw(nil, i)
		}
	})
}

// An event without a record, which who reads events relies on, is no answer.
func TestEventsWithoutRecords(t *testing.T) {
	for name, m := range map[string]*fleet.Texts{
		"plain":              {Text: []byte("\n\n"), Sizes: []uint32{2 << 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}},
		"plain, and a line":  {Text: []byte("\nx\n\n"), Sizes: []uint32{4 << 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}},
		"counted":            {Text: []byte{0}, Sizes: []uint32{1<<1 | 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}},
		"counted, in excess": {Text: []byte{0x80, 0}, Sizes: []uint32{2<<1 | 1}, Host: []uint32{0}, Hosts: [][]byte{[]byte("h")}},
	} {
		if _, err := (&textMemory{}).open(m); !errors.Is(err, errResponse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := unpack(&fleet.Events{Events: []*fleet.Event{{Ms: 1, Node: []byte("h")}}}, func(*event.Event) error { return nil })
	if !errors.Is(err, errResponse) {
		t.Error(err)
	}
}

// emptyCoverage answers with nothing about a host.
type emptyCoverage struct{ Service }

func (*emptyCoverage) Coverage(_ *fleet.CoverageRequest, stream grpc.ServerStreamingServer[fleet.CoverageResponse]) error {
	return stream.Send(&fleet.CoverageResponse{})
}

// Who asks for coverage gets answers, or an error.
func TestEmptyCoverage(t *testing.T) {
	c := dial(t, serveAs(t, &emptyCoverage{}, Allowed{GID: -1}))
	err := c.Coverage(t.Context(), &fleet.CoverageRequest{}, func(*fleet.Coverage) error { return nil })
	if !errors.Is(err, errResponse) {
		t.Error(err)
	}
}
