package clickhouse

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A cluster's name is read, or refused with what is wrong with it.
func TestParse(t *testing.T) {
	got, err := Parse("clickhouse://a.example:9000,[::1]:9440/audit?user=u&password_file=/f&shards=2&quorum=3&tls=yes&ca=/ca&cert=/c&key=/k")
	must(t, err)
	want := &Address{Nodes: []string{"a.example:9000", "[::1]:9440"}, Database: "audit", User: "u", Password: "/f", Shards: 2, Quorum: 3, TLS: true, CA: "/ca", Cert: "/c", Key: "/k"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if text := got.String(); text != "clickhouse://a.example:9000,[::1]:9440/audit" {
		t.Errorf("as text: %s", text)
	}
	for text, part := range map[string]string{
		"http://a:1/d":                                 "begin with clickhouse://",
		"clickhouse://a/d":                             `"a" is not HOST:PORT`,
		"clickhouse://:9000/d":                         "is not HOST:PORT",
		"clickhouse://a:0/d":                           "is not HOST:PORT",
		"clickhouse://a:9000":                          "no database's name",
		"clickhouse://a:9000/d'; DROP TABLE x":         "no database's name",
		"clickhouse://u:secret@a:9000/d":               "password_file=FILE",
		"clickhouse://a:9000/d?password=secret":        "password_file=FILE",
		"clickhouse://a:9000,a:9000/d":                 "twice",
		"clickhouse://a:9000/d?user=a&user=b":          "user is there 2 times",
		"clickhouse://a:9000/d?sahrds=2":               "sahrds",
		"clickhouse://a:9000/d?shards=2":               "2 shards on 1 servers",
		"clickhouse://a:9000,b:9000,c:9000/d?shards=2": "3 servers of 2 shards: name as many of each",
		"clickhouse://a:9000/d?shards=0":               "is no number",
		"clickhouse://a:9000/d?tls=maybe":              "neither yes nor no",
		"clickhouse://a:9000/d?ca=/x":                  "for tls=yes",
		"clickhouse://a:9000/d?tls=yes&cert=/x":        "go together",
		"clickhouse://a:9000/d?user=%zz":               "options",
		"clickhouse://" + strings.Repeat("a", 500):     "is not HOST:PORT",
	} {
		_, err := Parse(text)
		if !errors.Is(err, ErrURL) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v; want an ErrURL with %q", text, err, part)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", text, err)
		}
	}
}

// What the address names in files is read, and said by its option where it cannot be.
func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	p, conf, err := (&Address{Password: file("p", "pass word\n")}).secrets()
	if err != nil || p != "pass word" || conf != nil {
		t.Errorf("%q, %v, %v", p, conf, err)
	}
	for option, a := range map[string]*Address{
		"password_file": {Password: filepath.Join(dir, "none")},
		"has no pass":   {Password: file("empty", "\n")},
		"ca":            {TLS: true, CA: filepath.Join(dir, "none")},
		"no certif":     {TLS: true, CA: file("ca", "text")},
		"cert and key":  {TLS: true, Cert: file("c", "text"), Key: file("k", "text")},
	} {
		if _, _, err := a.secrets(); err == nil || !strings.Contains(err.Error(), option) {
			t.Errorf("%s: %v", option, err)
		}
	}
}
