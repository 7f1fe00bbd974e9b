package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sidepass/sidepass/config"
	"github.com/sidepass/sidepass/proxy/jwks"
	"github.com/sidepass/sidepass/state"
	"github.com/sidepass/sidepass/tokencache"
	"github.com/sidepass/sidepass/tokencache/seal"
)

// kept is what survives a restart in tokens.state_dir: the key sets of issuers, and the tokens that are our own and bound to
// nothing. While there is no directory it keeps nothing. What goes in may come from any goroutine, the rest is for start and reload.
type kept struct {
	dir    atomic.Pointer[state.Dir]
	digest [sha256.Size]byte       // of the key file that it seals with
	stop   context.CancelFunc      // ends its writing
	found  map[string]state.Record // what an earlier process left, until the first generation has it
}

// keeping is where a configuration wants things kept. Its dir is nil for nowhere.
type keeping struct {
	dir    *state.Dir
	keys   *seal.Keys
	digest [sha256.Size]byte
}

// openState opens the directory that a configuration names, unless it is in use already. It changes nothing that is in use.
func (p *process) openState(loaded *config.Loaded) (k keeping, err error) {
	t := loaded.Config.Tokens
	if t.StateDir == "" {
		return keeping{}, nil
	}
	if k.keys, k.digest, err = p.sealingKeys(loaded); err != nil {
		return keeping{}, err
	}
	if k.dir = p.kept.dir.Load(); k.dir == nil || k.dir.Path() != t.StateDir {
		k.dir, err = state.Open(state.Options{Path: t.StateDir, Keys: k.keys, Observer: p.observe.state})
	}
	if err != nil {
		return keeping{}, placed(loaded, fmt.Errorf("tokens.state_dir: %w", err))
	}
	return k, nil
}

// sealingKeys are those of tokens.encryption_key_file, with a digest that tells them from others.
func (p *process) sealingKeys(loaded *config.Loaded) (keys *seal.Keys, digest [sha256.Size]byte, err error) {
	err = p.files.together(loaded, func(content ...[]byte) (err error) {
		keys, err = seal.Parse(content[0])
		digest = sha256.Sum256(content[0])
		return err
	}, loaded.Config.Tokens.EncryptionKeyFile)
	if err != nil {
		return nil, digest, fmt.Errorf("tokens.encryption_key_file: %w", err)
	}
	return keys, digest, nil
}

// keepIn has what a generation has, and what it will get, kept where its configuration says.
func (s *sidecar) keepIn(next keeping, g *generation) {
	k := &s.process.kept
	was := k.dir.Load()
	switch {
	case next.dir == was && next.digest == k.digest:
		return
	case next.dir == was:
		was.Use(next.keys)
	default:
		if k.stop != nil {
			k.stop()
		}
		k.dir.Store(next.dir)
		if k.stop = nil; next.dir != nil {
			ctx, stop := context.WithCancel(s.keysCtx)
			k.stop = stop
			s.group.Go(func() error { return next.dir.Run(ctx) })
		}
	}
	k.digest = next.digest
	for _, o := range g.own {
		if t := o.entry.Status(time.Now()).Token; t != nil {
			k.token(o.key, t)
		}
	}
	for _, t := range g.trusted {
		if set := t.keys.Last(); set != nil && t.config.JWKSFile == "" {
			k.keySet(t.config, g.loaded.Config.Inbound.JWKSMaxStale, set)
		}
	}
}

// restore gives the first generation the tokens that an earlier process left. The keys it was given when it was built.
func (s *sidecar) restore(g *generation) {
	for _, o := range g.own {
		t := s.process.kept.foundToken(o.key)
		if t == nil || !o.entry.Restore(t) {
			continue
		}
		for _, r := range o.routes {
			s.metrics.TokenObtained(r, t.Obtained)
			s.metrics.TokenExpiry(r, t.Expiry)
		}
		s.o.Log.Info("the last-known-good token from tokens.state_dir is used until the authorization server gives a new one",
			zap.String("issuer", o.issuer), zap.Strings("routes", o.routes), zap.Duration("age", time.Since(t.Obtained)), zap.Time("expires", t.Expiry))
	}
	for _, t := range g.trusted {
		if set := t.keys.Last(); set != nil {
			s.metrics.JWKSKeys(t.config.Name, len(set.Keys), set.Loaded)
			s.o.Log.Info("the last-known-good keys from tokens.state_dir are used until the issuer gives new ones",
				zap.String("issuer", t.config.Name), zap.Int("keys", len(set.Keys)), zap.Duration("age", time.Since(set.Loaded)))
		}
	}
	s.process.kept.found = nil // it was for the start; from now on what this process has is newer
}

// ownToken is an entry whose token may be kept.
type ownToken struct {
	key    tokencache.Key
	entry  *tokencache.Entry
	issuer string
	routes []string
}

// keptToken is a token as it is kept; its times are the record's.
type keptToken struct{ Token, Scope string }

func tokenName(key tokencache.Key) string { return "token " + hex.EncodeToString(key[:]) }

// token keeps a token.
func (k *kept) token(key tokencache.Key, t *tokencache.Token) {
	dir := k.dir.Load()
	if dir == nil || t.Scheme != "Bearer" {
		return
	}
	text, err := json.Marshal(keptToken{t.Reveal(), t.Scope})
	if err == nil {
		dir.Put(state.Record{Of: tokenName(key), Since: t.Obtained, Until: t.Expiry, Text: text})
	}
}

// forgetToken forgets a token that an upstream refused.
func (k *kept) forgetToken(key tokencache.Key) {
	if dir := k.dir.Load(); dir != nil {
		dir.Remove(tokenName(key))
	}
}

// foundToken is the token that an earlier process left, or nil.
func (k *kept) foundToken(key tokencache.Key) *tokencache.Token {
	r, ok := k.found[tokenName(key)]
	var t keptToken
	if !ok || json.Unmarshal(r.Text, &t) != nil || t.Token == "" {
		return nil
	}
	return tokencache.NewToken(t.Token, t.Scope, r.Since, r.Until.Sub(r.Since))
}

// keysName binds a key set to its issuer and to where it was to be had.
func keysName(c config.Issuer) string {
	return fmt.Sprintf("keys %q %q", c.URL.String(), c.JWKSURI.String())
}

// keySet keeps an issuer's keys for as long as they may be used without a refresh.
func (k *kept) keySet(c config.Issuer, maxStale time.Duration, set *jwks.Set) {
	if dir := k.dir.Load(); dir != nil {
		dir.Put(state.Record{Of: keysName(c), Since: set.Loaded, Until: set.Loaded.Add(maxStale), Text: set.Document})
	}
}

// foundKeys are the keys that an earlier process left, or nil. Their age counts from when the issuer gave them.
func (k *kept) foundKeys(c config.Issuer, maxStale time.Duration) *jwks.Set {
	r, ok := k.found[keysName(c)]
	if !ok || time.Since(r.Since) > maxStale {
		return nil
	}
	set, err := jwks.Parse(r.Text)
	if err != nil {
		return nil
	}
	set.Loaded = r.Since
	return set
}

// keptEntry is the entry of a token that is kept: one that is dropped must not come back after a restart.
type keptEntry struct {
	*tokencache.Entry
	forget func()
}

// Drop is [tokencache.Entry.Drop].
func (e keptEntry) Drop(t *tokencache.Token) bool {
	dropped := e.Entry.Drop(t)
	if dropped {
		e.forget()
	}
	return dropped
}
