package qupath.lib.plugins.workflow;

public class DefaultScriptableWorkflowStep implements ScriptableWorkflowStep {

    public DefaultScriptableWorkflowStep(String name, String script) {
    }
}
