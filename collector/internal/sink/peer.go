package sink

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// peer is the other end of a sink. Any goroutine may call deliver.
type peer interface {
	// deliver returns nil once the other end has taken the message. It returns soon after
	// ctx is done.
	deliver(ctx context.Context, m *message) error
}

// refusal is an error after which the same message is not sent again.
type refusal struct{ error }

// Unwrap returns what was said.
func (r refusal) Unwrap() error { return r.error }

// partly is an error of a message that the other end has taken, but not for all: it is not sent
// again.
type partly struct{ error }

// Unwrap returns what was said.
func (p partly) Unwrap() error { return p.error }

// pause is an error of a peer that has said when to try again.
type pause struct {
	error
	after time.Duration
}

// Unwrap returns what was said.
func (p pause) Unwrap() error { return p.error }

// message is what a sink sends at once, as WEBHOOK.md describes it.
type message struct {
	Version   int       `json:"version"`
	ID        string    `json:"id"`
	Collector string    `json:"collector"`
	Condition string    `json:"condition"`
	Severity  string    `json:"severity"`
	State     string    `json:"state"`
	More      int       `json:"more,omitempty"`
	Alerts    []keyed   `json:"alerts"`
	sent      time.Time // now
}

// keyed is a notice with the key by which it is known when it comes again.
type keyed struct {
	Key string `json:"key"`
	Notice
}

// most of a message, so that whoever gets it knows what to expect.
const (
	messageNotices = 100
	messageBytes   = 256 << 10
)

// newMessage makes a message of notices of one group.
func newMessage(node string, now time.Time, list []waiting) *message {
	m := &message{Version: 1, Collector: node, sent: now, Alerts: make([]keyed, len(list))}
	all := sha256.New()
	for i, w := range list {
		m.Alerts[i] = keyed{Key: keyOf(node, &w.Notice), Notice: w.Notice}
		all.Write([]byte(m.Alerts[i].Key))
		m.More = max(m.More, w.More)
	}
	if first := &list[0].Notice; true {
		m.Condition, m.Severity, m.State = first.Condition, first.Severity, first.State
	}
	m.ID = "msg_" + base64.RawURLEncoding.EncodeToString(all.Sum(nil)[:16])
	return m
}

// keyOf is the same for a notice whenever it is sent, after a restart too.
func keyOf(node string, n *Notice) string {
	text, err := json.Marshal([]any{node, n.ID, n.State, n.Started, n.At})
	if err != nil { // a year beyond 9999
		text = []byte(node + n.ID + n.State)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// json returns the message as a webhook and a program get it.
func (m *message) json() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, refusal{err}
	}
	return append(text, '\n'), nil
}

// newPeer returns the other end of a sink.
func newPeer(s Settings) peer {
	switch s.Type {
	case kindAlertmanager:
		return &alertmanager{web{s}}
	case kindWebhook:
		return &webhook{web{s}}
	case kindMail:
		return &mailer{s}
	case kindExec:
		return &program{s}
	case kindSyslog:
		return &logger{s}
	}
	return broken{s.wrong}
}

// broken is a sink whose file is wrong.
type broken struct{ err error }

func (b broken) deliver(context.Context, *message) error {
	return fmt.Errorf("its file is wrong, repair it and reload: %s", plain(b.err.Error(), 400))
}
