package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Lack is what an answer lacks of a collector that could not be asked, or not to the end.
type Lack struct {
	Collector string
	Err       error
	// Tail: the answer has what the collector has stored, and lacks what it holds back.
	Tail bool
	// Part: the answer has some of its events, those up to LastMs (of a reversed search: from then on) where that
	// is not 0.
	Part     bool
	Reversed bool
	LastMs   int64 // since 1970
}

// Why is the error in one line.
func (l *Lack) Why() string { return strings.ReplaceAll(fmt.Sprintf("%.500v", l.Err), "\n", "; ") }

// Line says it, for who runs the command of a name.
func (l *Lack) Line(command string) string {
	what := "all that it has"
	at := time.UnixMilli(l.LastMs).Format("01/02/2006 15:04:05.000")
	switch {
	case l.Tail:
		what = "what it has not stored yet"
	case l.Part && l.LastMs != 0 && l.Reversed:
		what = "what it has from before " + at
	case l.Part && l.LastMs != 0:
		what = "what it has from " + at + " on"
	case l.Part:
		what = "some of what it has"
	}
	return terminal.Clean(fmt.Sprintf("%s: the answer is not complete: it lacks %s of the collector %s: %s", command, what, l.Collector, l.Why()))
}

// ExitLacking is the exit code of a command whose answer lacks what some collector has, or may have.
const ExitLacking = 3

// lacksKey is the key of a trailer, of which each value is a Lack as JSON: who does not know it has the answer all the same.
const lacksKey = "auditfleet-lacks"

// maxLacks bounds what a client keeps of them.
const maxLacks = 1000

type lackJSON struct {
	Collector string `json:"collector"`
	Error     string `json:"error"`
	Tail      bool   `json:"tail,omitempty"`
	Part      bool   `json:"part,omitempty"`
	Reversed  bool   `json:"reversed,omitempty"`
	LastMs    int64  `json:"last_ms,omitempty"`
}

// lacks collects what an answer lacks.
type lacks struct {
	mu   sync.Mutex // guards list
	list []Lack
}

func (l *lacks) add(one Lack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	same := func(o Lack) bool { return o.Collector == one.Collector }
	if len(l.list) < maxLacks && !slices.ContainsFunc(l.list, same) {
		l.list = append(l.list, one)
	}
}

func (l *lacks) all() []Lack {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

type lackingKey struct{}

// NoteLacks returns a context in which a source notes by Lacks what its answer lacks, and a function that returns what was noted.
func NoteLacks(ctx context.Context) (context.Context, func() []Lack) {
	l := &lacks{}
	return context.WithValue(ctx, lackingKey{}, l), l.all
}

// Lacks notes what the answer lacks that is made in a context.
func Lacks(ctx context.Context, one Lack) {
	if l, ok := ctx.Value(lackingKey{}).(*lacks); ok {
		l.add(one)
	}
}

// sendLacks sends behind the answer what it lacks.
func sendLacks(ctx context.Context, list []Lack) {
	var values []string
	for _, l := range list {
		b, err := json.Marshal(lackJSON{l.Collector, l.Why(), l.Tail, l.Part, l.Reversed, l.LastMs})
		if err == nil { // it has texts and numbers
			values = append(values, string(b))
		}
	}
	if len(values) > 0 {
		_ = grpc.SetTrailer(ctx, metadata.MD{lacksKey: values}) // only a call's own context has none
	}
}

// took notes what came behind an answer.
func (l *lacks) took(md metadata.MD) {
	for _, v := range md.Get(lacksKey) {
		var x lackJSON
		if err := json.Unmarshal([]byte(v), &x); err != nil {
			x.Error = "it says what it lacks in a way that this program does not know"
		}
		l.add(Lack{Collector: cmp.Or(x.Collector, "?"), Err: errors.New(x.Error), Tail: x.Tail, Part: x.Part, Reversed: x.Reversed, LastMs: x.LastMs})
	}
}

// message is a Lack as it travels while somebody follows.
func (l *Lack) message() *fleet.Lack {
	return &fleet.Lack{Collector: l.Collector, Error: l.Why(), Tail: l.Tail, Part: l.Part, LastMs: l.LastMs}
}

// lacksNow notes what an answer lacks that goes on.
func (c *Client) lacksNow(m *fleet.Lack) {
	l := Lack{Collector: m.GetCollector(), Err: errors.New(m.GetError()), Tail: m.GetTail(), Part: m.GetPart(), LastMs: m.GetLastMs()}
	c.lacks.add(l)
	if c.told != nil {
		c.told(l)
	}
}

// SayAtOnce has say called with what the answer lacks that somebody follows, as soon as that is found out. It is called before the first
// question.
func (c *Client) SayAtOnce(say func(Lack)) { c.told = say }

// SaidAtOnce reports whether that was asked for.
func (c *Client) SaidAtOnce() bool { return c.told != nil }

// Missing returns what the answers lack that came so far, in the order in which that was found out.
func (c *Client) Missing() []Lack { return c.lacks.all() }
