package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// sbom writes the CycloneDX list of what is in the binary. Two builds of the same bytes have the same list, its number included.
func (r *release) sbom(w io.Writer, modules []module) error {
	digest := sha256.Sum256(r.content)
	app := cdx.Component{
		BOMRef: purl(r.build.Main.Path, r.version, url.Values{"goos": {r.setting("GOOS")}, "goarch": {r.setting("GOARCH")}}), Type: cdx.ComponentTypeApplication,
		Name: "sidepass", Version: r.version, Licenses: choices([]string{"Apache-2.0"}),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(digest[:])}},
		Properties: &[]cdx.Property{{Name: "cdx:gomod:build:compiler", Value: r.build.GoVersion}},
	}
	app.PackageURL = app.BOMRef
	for _, s := range selected(r.build) {
		*app.Properties = append(*app.Properties, cdx.Property{Name: "cdx:gomod:build:env:" + s.Key, Value: s.Value})
	}
	var components []cdx.Component
	var refs []string
	for _, m := range modules {
		c := cdx.Component{
			BOMRef: purl(m.path, m.version, nil), Type: cdx.ComponentTypeLibrary,
			Name: m.path, Version: m.version, Licenses: choices(m.licenses),
		}
		c.PackageURL = c.BOMRef
		if m.sum != "" {
			c.Properties = &[]cdx.Property{{Name: "sidepass:go.sum", Value: m.sum}}
		}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(digest)
	bom.Metadata = &cdx.Metadata{
		Timestamp: r.time.Format(time.RFC3339), Component: &app, Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhasePostBuild}},
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "sidepass release/build", Version: r.version}}},
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: app.BOMRef, Dependencies: &refs}}
	// The binary names all its modules, and not which of them wanted which.
	bom.Compositions = &[]cdx.Composition{
		{Aggregate: cdx.CompositionAggregateComplete, Assemblies: &[]cdx.BOMReference{cdx.BOMReference(app.BOMRef)}},
		{Aggregate: cdx.CompositionAggregateIncomplete, Dependencies: &[]cdx.BOMReference{cdx.BOMReference(app.BOMRef)}},
	}
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// purl is a module's package URL, which vulnerability databases know it by.
func purl(path, version string, qualifiers url.Values) string {
	p := "pkg:golang/" + path + "@" + url.PathEscape(version)
	if len(qualifiers) > 0 {
		p += "?" + qualifiers.Encode()
	}
	return p
}

func choices(licenses []string) *cdx.Licenses {
	if len(licenses) > 1 {
		return &cdx.Licenses{{Expression: strings.Join(licenses, " AND ")}}
	}
	return &cdx.Licenses{{License: &cdx.License{ID: licenses[0]}}}
}

// serial is a UUID made from the binary's digest (RFC 9562, section 5.8).
func serial(digest [sha256.Size]byte) string {
	digest[6], digest[8] = digest[6]&0x0f|0x80, digest[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", digest[:4], digest[4:6], digest[6:8], digest[8:10], digest[10:16])
}

// settings that say what kind of build it is; the others are the compiler's own.
var settings = []string{"GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "GOFIPS140"}

// selected are those of the settings that the binary has, in their order.
func selected(build *debug.BuildInfo) []debug.BuildSetting {
	var out []debug.BuildSetting
	for _, s := range build.Settings {
		if slices.Contains(settings, s.Key) {
			out = append(out, s)
		}
	}
	return out
}
