package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/descriptors"
)

// openHTTP binds the address of /metrics, /healthz, /readyz and the pages.
func (s *Server) openHTTP() error {
	if s.cfg.HTTP == "" {
		return nil
	}
	ln, err := net.Listen("tcp", s.cfg.HTTP)
	if err != nil {
		hint := "choose another --http"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "another program holds it; choose another --http, or --http \"\" for none"
		}
		return fmt.Errorf("serve metrics on %s: %w: %s", s.cfg.HTTP, err, hint)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.reg.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.health()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.state(), s.degraded()...) })
	for pattern, page := range s.cfg.Pages {
		mux.Handle(pattern, page)
	}
	s.httpLn = ln
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return nil
}

// health is "ok" unless storing fails: a restart may help then. Starting,
// stopping and a full disk are healthy, though not ready.
func (s *Server) health() string {
	if s.ready.Load() && !s.refusing() {
		return s.storage()
	}
	return "ok"
}

// degraded is what answers lack, a line each: parts of the store that were set aside
// or are missing, and a cluster that takes nothing. Records are taken all the same, so it takes nothing from being ready.
func (s *Server) degraded() (lines []string) {
	if wait := s.waiting(); wait != "" {
		lines = append(lines, "degraded: "+strings.ReplaceAll(wait, "\n", "; "))
	}
	for _, err := range s.store.Missing() {
		lines = append(lines, "degraded: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return lines
}

func answer(w http.ResponseWriter, state string, more ...string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if state != "ok" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, strings.Join(append([]string{state}, more...), "\n"))
}

func (s *Server) serveHTTP() {
	if s.http == nil {
		return
	}
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		if err := s.http.Serve(descriptors.Limit(s.httpLn, descriptors.Scrapes)); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("serving metrics ended", "error", err)
		}
	}()
}

func (s *Server) closeHTTP() {
	if s.http == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	_ = s.httpLn.Close() // when it was never served
}
