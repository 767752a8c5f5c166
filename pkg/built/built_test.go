package built

import "testing"

func TestText(t *testing.T) {
	for want, got := range map[string]string{
		"collector v1\ncommit abc, 2026-11-29T20:31:23Z": text("collector v1", "abc", "2026-11-29T20:31:23Z"),
		"collector v1\ncommit abc":                       text("collector v1", "abc", ""),
		"collector unknown":                              text("collector "+Unknown, "", ""),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if v := Version("v1"); v != "v1" {
		t.Errorf("the linker's version became %q", v)
	}
}
