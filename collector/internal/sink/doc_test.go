package sink

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The example of WEBHOOK.md is a message as it is sent.
func TestExampleOfThePage(t *testing.T) {
	page, err := os.ReadFile("WEBHOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	var m message
	if err := json.Unmarshal(example[1], &m); err != nil {
		t.Fatal(err)
	}
	n := m.Alerts[0].Notice
	again := newMessage(m.Collector, n.At, []waiting{{Notice: n, More: m.More}})
	m.ID, m.Alerts[0].Key, m.sent = again.ID, again.Alerts[0].Key, n.At
	if diff := cmp.Diff(&m, again, cmp.AllowUnexported(message{})); diff != "" {
		t.Error(diff)
	}
}
