package terminal

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "abc": 3, "é": 1, "e\u0301": 1, "日本語": 6, "한국": 4, "ｆ": 2, "🦀": 2, "\ufffd": 1, "…": 1, "/usr/bin/日本語": 15,
	} {
		if got := Width(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := Pad("漢字", 6) + "|" + Pad("long", 2); got != "漢字  |long" {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	rows := [][]string{{"HOST", "STATE", "N"}, {"東京", "-", "1"}, {"web1.example", "away", ""}}
	for right, want := range map[bool]string{
		false: "HOST          STATE  N\n" +
			"東京          -      1\n" +
			"web1.example  away\n",
		true: "HOST          STATE  N\n" +
			"東京              -  1\n" +
			"web1.example   away\n",
	} {
		var got []byte
		for _, row := range rows {
			got = append(AppendRow(got, row, Widths(rows), []bool{false, right, right}), '\n')
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Error(diff)
		}
	}
}
