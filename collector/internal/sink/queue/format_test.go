package queue

import (
	"os"
	"regexp"
	"testing"
)

// The examples of FORMAT.md are entries of a queue.
func TestExamplesOfThePage(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^\{.*\}$`).FindAll(page, -1)
	if len(lines) != 3 {
		t.Fatalf("%d examples", len(lines))
	}
	for _, line := range lines {
		c, err := decode(line)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.encode()
		if err != nil || string(again) != string(line) {
			t.Errorf("%s (%v), want %s", again, err, line)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"add":{"seq":1,"id":"a","data":{}},"done":[3]}`))
	f.Add([]byte(`{"v":1,"since":3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decode(text)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
