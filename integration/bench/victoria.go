package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/record"
)

const (
	victoriaConns = 8    // requests at once
	victoriaLines = 5000 // records in one
)

// victoria is a running VictoriaLogs.
type victoria struct {
	*harness.Proc
	at     string
	client *http.Client
}

// startVictoria starts VictoriaLogs on loopback with its data in a folder and waits until it answers.
func startVictoria(program, dir string) (*victoria, error) {
	port, err := need.FreePort()
	if err != nil {
		return nil, err
	}
	program, err = filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	v := &victoria{at: "http://127.0.0.1:" + strconv.Itoa(port), client: &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: victoriaConns}}}
	v.Proc, err = harness.Start(harness.Spec{Name: "victoria-logs", Args: []string{program, "-storageDataPath", dir, "-httpListenAddr", "127.0.0.1:" + strconv.Itoa(port), "-retentionPeriod", "10y"}})
	if err != nil {
		return nil, err
	}
	if !harness.Poll(time.Minute, func() bool { return v.get("/health", io.Discard) == nil || v.Exited() }) || v.Exited() {
		v.Kill()
		return nil, fmt.Errorf("victoria-logs is not ready; its output:\n%s", v.Output())
	}
	return v, nil
}

func (v *victoria) get(path string, to io.Writer) error {
	resp, err := v.client.Get(v.at + path)
	return readAnswer(resp, err, to)
}

// readAnswer takes an answer to its end.
func readAnswer(resp *http.Response, err error, to io.Writer) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

// insert sends what jsonBodies has made, several at once.
func (v *victoria) insert(ctx context.Context, bodies [][]byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(victoriaConns)
	for _, body := range bodies {
		g.Go(func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.at+"/insert/jsonline?_stream_fields=host&_time_field=_time&_msg_field=_msg", bytes.NewReader(body))
			if err != nil {
				return err
			}
			resp, err := v.client.Do(req)
			return readAnswer(resp, err, io.Discard)
		})
	}
	return g.Wait()
}

// merged waits until all is on disk and merged.
func (v *victoria) merged() (harness.Usage, error) {
	for _, path := range []string{"/internal/force_flush", "/internal/force_merge"} {
		if err := v.get(path, io.Discard); err != nil {
			return harness.Usage{}, err
		}
	}
	if err := v.Settle(5*time.Second, 3*time.Minute); err != nil {
		return harness.Usage{}, err
	}
	return v.Usage()
}

// ask takes the median of several runs of a query.
func (v *victoria) ask(query string) (a asked, _ error) {
	before, err := v.Usage()
	if err != nil {
		return a, err
	}
	var walls []time.Duration
	for spent := time.Duration(0); len(walls) < 100 && (len(walls) < 3 || spent < time.Second) && spent < 3*longAnswer; {
		var got lineCounter
		begin := time.Now()
		resp, err := v.client.PostForm(v.at+"/select/logsql/query", url.Values{"query": {query}})
		if err := readAnswer(resp, err, &got); err != nil {
			return a, fmt.Errorf("%s: %w", query, err)
		}
		took := time.Since(begin)
		walls, spent, a.records = append(walls, took), spent+took, int(got)
	}
	after, err := v.Usage()
	if err != nil {
		return a, err
	}
	a.wall, a.cpu = median(walls), (after.CPU-before.CPU)/time.Duration(len(walls))
	return a, nil
}

// lineCounter counts lines.
type lineCounter int

func (l *lineCounter) Write(p []byte) (int, error) {
	*l += lineCounter(bytes.Count(p, []byte("\n")))
	return len(p), nil
}

// jsonBodies makes JSON lines of records: time, raw line, host, the event's name, type, serial, and each field of the record.
func jsonBodies(texts [][]byte) (bodies [][]byte, _ error) {
	for _, text := range texts {
		var body []byte
		n := 0
		for line := range bytes.Lines(text) {
			var err error
			if body, err = appendJSON(body, bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return nil, err
			}
			if n++; n%victoriaLines == 0 {
				bodies, body = append(bodies, body), nil
			}
		}
		if len(body) > 0 {
			bodies = append(bodies, body)
		}
	}
	return bodies, nil
}

func appendJSON(dst, line []byte) ([]byte, error) {
	var r record.Record
	if err := r.Parse(line); err != nil {
		return nil, fmt.Errorf("%w: %.80q", err, line)
	}
	at := time.UnixMilli(r.Ms()).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z")
	serial := strconv.AppendUint(nil, r.Serial, 10)
	had := map[string]bool{}
	put := func(name string, value []byte) error {
		if had[name] || len(value) == 0 {
			return nil
		}
		had[name] = true
		text, err := json.Marshal(string(value))
		if err != nil {
			return err
		}
		if len(had) > 1 {
			dst = append(dst, ',')
		} else {
			dst = append(dst, '{')
		}
		dst = append(append(strconv.AppendQuote(dst, name), ':'), text...)
		return nil
	}
	event := fmt.Appendf(nil, "%s %d.%03d:%d", r.Node, r.Sec, r.Milli, r.Serial)
	for _, f := range []struct {
		name  string
		value []byte
	}{{"_time", at}, {"_msg", line}, {"host", r.Node}, {"event", event}, {"type", r.TypeName}, {"serial", serial}} {
		if err := put(f.name, f.value); err != nil {
			return nil, err
		}
	}
	for _, fields := range []record.Fields{r.Fields(), r.MsgFields()} {
		for f, ok := fields.Next(); ok; f, ok = fields.Next() {
			if f.Quote == '\'' || string(f.Value) == "(null)" { // msg='…' is the fields in it
				continue
			}
			if err := put(string(f.Name), f.Value); err != nil {
				return nil, err
			}
		}
	}
	return append(dst, "}\n"...), nil
}
