/**
 * What the extension does without QuPath: find a Python, ask it, and set one up.
 *
 * <p>{@link qupath.ext.patchbridge.core.BridgeProcess} asks once, for work that takes long;
 * {@link qupath.ext.patchbridge.core.BridgeSession} keeps a Python for previews;
 * {@link qupath.ext.patchbridge.core.PythonSetup} chooses a Python or makes one. Nothing here knows what a
 * patch is. Callbacks come in threads of this package, never in JavaFX's.
 */
package qupath.ext.patchbridge.core;
