package sink

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"
)

// alertmanager speaks version 2 of Alertmanager's HTTP API. An alert ends there by itself
// some time after it was last told of, so the sink tells it again what fires (see
// worker.resend).
type alertmanager struct{ web }

// endsAfter is after how many times resend an alert ends that is no longer told.
const endsAfter = 4

type postedAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

func (a *alertmanager) deliver(ctx context.Context, m *message) error {
	list := make([]postedAlert, len(m.Alerts))
	for i := range m.Alerts {
		list[i] = a.posted(m, &m.Alerts[i].Notice)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return refusal{err}
	}
	return a.post(ctx, strings.TrimRight(a.s.URL, "/")+"/api/v2/alerts", body, http.Header{}, taken)
}

// taken judges an answer of 200: a page of something else that stands there, or of a proxy before
// it, takes no alerts, whatever its status.
func taken(typ string, answer []byte) error {
	if kind, _, err := mime.ParseMediaType(typ); err == nil && (kind == "text/html" || kind == "application/xhtml+xml") {
		return errors.New("that is a page for people, no Alertmanager: look at the sink's url")
	}
	var said struct{ Status, Error string }
	if json.Unmarshal(answer, &said) == nil && (strings.EqualFold(said.Status, "error") || said.Error != "") {
		return errors.New("said that it failed")
	}
	return nil
}

// posted returns a notice as the API has it. The labels say which alert it is, so nothing
// is among them that changes while one fires.
func (a *alertmanager) posted(m *message, n *Notice) postedAlert {
	p := postedAlert{
		Labels:      map[string]string{},
		Annotations: map[string]string{"summary": plain(n.Summary, 1000)},
		StartsAt:    n.Started, EndsAt: n.Ended, GeneratorURL: a.s.GeneratorURL,
	}
	for name, value := range n.Labels {
		if value != "" { // to Alertmanager the same as none
			p.Labels[labelName(name)] = strings.ToValidUTF8(value, "?")
		}
	}
	p.Labels["alertname"], p.Labels["severity"] = n.Condition, n.Severity
	p.Labels["collector"] = strings.ToValidUTF8(m.Collector, "?")
	if n.Test {
		p.Labels["test"] = "true"
	}
	if n.Value != "" {
		p.Annotations["value"] = plain(n.Value, 200)
	}
	if n.State == Firing {
		p.EndsAt = m.sent.Add(endsAfter * a.s.Resend)
	} else if p.EndsAt.IsZero() || p.EndsAt.After(m.sent) {
		p.EndsAt = m.sent
	}
	if p.StartsAt.IsZero() || p.StartsAt.After(p.EndsAt) { // refused otherwise
		p.StartsAt = p.EndsAt
	}
	return p
}

// labelName returns a name that every version of Alertmanager takes.
func labelName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}
