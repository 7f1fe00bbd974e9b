package main

import (
	"context"
	"fmt"
	stdlog "log"
	"strings"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// libraries logs what the libraries say by themselves, past all that they can be given. Package net/http quotes what came unasked on an
// idle connection, up to 4 KiB of somebody's answer, or a token: nothing is kept from the first quotation mark on.
type libraries struct{ log *zap.Logger }

// listen makes the libraries of this process speak to the log, and not to standard error.
func (l libraries) listen() {
	stdlog.SetFlags(0)
	stdlog.SetOutput(l) //nolint:forbidigo // what it writes goes to that one log
	goredis.SetLogger(l)
}

func (l libraries) Write(line []byte) (int, error) {
	l.log.Warn("a library says", zap.String("text", harmless(string(line))))
	return len(line), nil
}

// Printf is for go-redis, which tells the same of each connection that fails.
func (l libraries) Printf(_ context.Context, format string, v ...any) {
	l.log.Debug("a library says", zap.String("text", harmless(fmt.Sprintf(format, v...))))
}

func harmless(text string) string {
	text, _, _ = strings.Cut(text, `"`)
	return strings.TrimSpace(text)
}
